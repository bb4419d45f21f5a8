// The service worker: it keeps the page for use without a network, and isolates it so that the network runs on threads.

const MOST_THREADS = 4; // more gain little for one picture, and a device needs some for itself
const TRIED = "lpt-isolated";

/**
 * Install the service worker. The first visit is loaded a second time, since only then does the page come with the
 * headers that threads need; until then nothing large is fetched.
 *
 * @param {() => boolean} mayReload whether nothing would be lost
 * @returns {Promise<boolean>} false if the page is about to be loaded again
 */
export async function prepareOffline(mayReload) {
  if (!navigator.serviceWorker) return true; // a page without https
  try {
    const registration = await navigator.serviceWorker.register("./service-worker.js", { updateViaCache: "none" });
    if (self.crossOriginIsolated || sessionStorage.getItem(TRIED)) return true;
    if (!(await isActive(registration)) || !mayReload()) return true;
    sessionStorage.setItem(TRIED, "yes"); // once only: some browsers do not isolate pages
    location.reload();
    return false;
  } catch {
    return true; // no room, or not allowed: the page works, but needs the network
  }
}

/** Wait until the service worker is installed; return false if it cannot be. */
function isActive(registration) {
  const worker = registration.installing ?? registration.waiting ?? registration.active;
  return new Promise((resolve) => {
    const look = () => ["activated", "redundant"].includes(worker.state) && resolve(worker.state === "activated");
    worker.addEventListener("statechange", look);
    look();
  });
}

/** Return how many threads the network may use. */
export function threadCount() {
  return self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS) : 1;
}

/** Return whether the page works without a network from now on. */
export function worksOffline(kept) {
  return kept && Boolean(navigator.serviceWorker?.controller);
}
