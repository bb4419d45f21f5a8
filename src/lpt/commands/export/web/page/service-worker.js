// Keeps the page for use without a network, and sends it with the headers that threads need (SharedArrayBuffer needs an
// isolated page, and many static hosts cannot set headers). It asks no other host.

importScripts("./release.js"); // sets self.RELEASE; a new release makes the browser install this worker anew

const HOME = new URL("./", self.location).href;
const FILES = new Map(self.RELEASE.files.map((file) => [new URL(file.name, HOME).href, file]));
const LIST = new URL("./release.js", HOME).href;
const CACHE = `lpt-web ${new URL(HOME).pathname} `;
const TYPES = {
  html: "text/html; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  css: "text/css; charset=utf-8",
  json: "application/json",
  txt: "text/plain; charset=utf-8",
};
const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
  "X-Content-Type-Options": "nosniff",
  // the same as in index.html; workers take theirs from here
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; " +
    "img-src 'self' blob: data:; style-src 'self'; base-uri 'none'; form-action 'none'",
};

self.addEventListener("install", (event) => {
  event.waitUntil(install().then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(removeOthers().then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  url.search = "";
  url.hash = "";
  if (url.href === HOME) url.pathname += "index.html";
  if (event.request.method !== "GET") return;
  const file = FILES.get(url.href);
  if (url.href === LIST) event.respondWith(new Response(list(), { headers: headersOf("release.js") }));
  else if (file) event.respondWith(answer(url.href, file));
});

/** Keep all small files. The large ones are kept by worker.js, which shows their progress. */
async function install() {
  const cache = await caches.open(CACHE + self.RELEASE.version);
  const small = [...FILES].filter(([, file]) => !file.large);
  await Promise.all(
    small.map(async ([url, file]) => {
      const response = await fetch(url, { cache: "reload" });
      if (!response.ok) throw new Error(`${file.name}: status ${response.status}`);
      const content = await response.arrayBuffer();
      if ((await sha256(content)) !== file.sha256) throw new Error(`${file.name} is not that of this release`);
      await cache.put(url, new Response(content, { headers: headersOf(file.name) }));
    }),
  );
}

async function removeOthers() {
  const names = (await caches.keys()).filter((name) => name.startsWith(CACHE));
  await Promise.all(names.filter((name) => name !== CACHE + self.RELEASE.version).map((name) => caches.delete(name)));
}

async function answer(url, file) {
  const cache = await caches.open(CACHE + self.RELEASE.version);
  const kept = await cache.match(url);
  if (kept) return kept;
  const response = await fetch(url, { cache: "no-cache" });
  if (!response.ok) return response;
  return new Response(response.body, { status: response.status, headers: headersOf(file.name) });
}

/** Return the text of release.js: that of the files which this worker keeps. */
function list() {
  return `self.RELEASE = ${JSON.stringify(self.RELEASE)};\n`;
}

function headersOf(name) {
  const type = TYPES[name.split(".").pop()] ?? "application/octet-stream";
  return { "Content-Type": type, ...HEADERS };
}

async function sha256(content) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
