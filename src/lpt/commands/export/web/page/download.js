// Fetch the large files of the page once, check them, and keep them for use without a network.

/** A file that cannot be fetched, or is not that of this release. */
export class DownloadError extends Error {}

/**
 * Return the bytes of a file of the release: from what was kept, or else from the host of the page.
 *
 * @param {{version: string}} release of the page
 * @param {{name: string, bytes: number, sha256: string}} file the file
 * @param {(bytes: number) => void} show called with the bytes that are there so far
 * @returns {Promise<{content: Uint8Array, kept: boolean}>} its bytes, and whether they are kept
 */
export async function download(release, file, show) {
  const url = new URL(file.name, import.meta.url).href;
  const cache = await openCache(release.version);
  const before = await cache?.match(url);
  if (before) {
    const content = new Uint8Array(await before.arrayBuffer());
    show(file.bytes);
    return { content, kept: true };
  }
  const content = await fetchWhole(url, release, file, show);
  await check(content, release, file);
  return { content, kept: await keep(cache, url, content) };
}

/** Return the folder of kept files; null where the browser has none, as on a page without https. */
async function openCache(version) {
  try {
    return await caches.open(`lpt-web ${new URL("./", import.meta.url).pathname} ${version}`);
  } catch {
    return null;
  }
}

async function fetchWhole(url, release, file, show) {
  let response;
  try {
    response = await fetch(url, { cache: "no-cache" }); // a host may have another version now
  } catch {
    throw new DownloadError(`${file.name} cannot be fetched: there is no network. Try again when there is one.`);
  }
  if (!response.ok) throw new DownloadError(`${file.name} cannot be fetched: the host answers ${response.status}.`);
  const content = new Uint8Array(file.bytes);
  const reader = response.body.getReader();
  let size = 0;
  for (;;) {
    const part = await reader.read().catch(() => {
      throw new DownloadError(`${file.name} cannot be fetched: the connection broke off. Reload the page.`);
    });
    if (part.done) break;
    if (size + part.value.length > file.bytes) throw await changed(release, file);
    content.set(part.value, size);
    size += part.value.length;
    show(size);
  }
  if (size < file.bytes) throw await changed(release, file);
  return content;
}

async function check(content, release, file) {
  if (!globalThis.crypto?.subtle) return; // only on a page without https, where its size was compared
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (hex !== file.sha256) throw await changed(release, file);
}

/**
 * Return the error for a file that is not of this release. Before that the browser drops what it kept of the small files
 * without a service worker: a reload would not ask the host for them.
 */
export async function changed(release, file) {
  const names = ["release.js", ...release.files.filter((other) => !other.large).map((other) => other.name)];
  const fresh = (name) => fetch(new URL(name, import.meta.url), { cache: "reload" });
  await Promise.allSettled(names.map(fresh));
  return new DownloadError(`${file.name} is incomplete, or of another version of this page. Reload the page.`);
}

async function keep(cache, url, content) {
  try {
    await cache.put(url, new Response(content, { headers: { "Content-Type": "application/octet-stream" } }));
    return true;
  } catch {
    return false; // no such cache, or no room: the page works, but not without a network
  }
}
