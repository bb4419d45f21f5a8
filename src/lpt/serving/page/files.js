// Pictures from what a person drops, pastes or picks.

const ENDINGS = /\.(jpe?g|png|gif|webp|bmp|tiff?|avif|heic|heif|jxl|jp2|ppm)$/i;

/** Split files into pictures and the rest. */
export function sortOut(files) {
  const [pictures, others] = [[], []];
  for (const file of files) (file.type.startsWith("image/") || ENDINGS.test(file.name) ? pictures : others).push(file);
  return { pictures, others };
}

/** Return the files of a drop, also those in folders. */
async function droppedFiles(transfer) {
  const loose = [...transfer.files]; // as the entries, gone after an await
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return loose;
  return Promise.all(entries.map(filesIn)).then((files) => files.flat(), () => loose); // a folder may be locked
}

async function filesIn(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const entries = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // at most 100 at a time
    if (!some.length) break;
    entries.push(...some);
  }
  entries.sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  return (await Promise.all(entries.map(filesIn))).flat();
}

let pasted = 0;

/** Return pasted files; pictures from the clipboard are all called image.png, so they are numbered. */
function pastedFiles(transfer) {
  return [...transfer.files].map((file) => {
    if (file.name !== "image.png") return file;
    pasted += 1;
    return new File([file], `Pasted picture ${pasted}.png`, { type: file.type });
  });
}

/** Give files to `add` that are dropped, pasted, chosen or photographed. */
export function takeFiles(add) {
  for (const id of ["choose", "camera"]) {
    const input = document.getElementById(id);
    input.addEventListener("change", () => {
      add([...input.files]);
      input.value = ""; // the same file may be chosen again
    });
  }
  const place = document.getElementById("drop");
  let inside = 0; // dragenter comes for every element below
  const show = () => place.classList.toggle("over", inside > 0);
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => hasFiles(event) && ((inside += 1), show()));
  addEventListener("dragleave", (event) => hasFiles(event) && ((inside -= 1), show()));
  addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    inside = 0;
    show();
    add(await droppedFiles(event.dataTransfer));
  });
  addEventListener("paste", (event) => event.clipboardData?.files.length && add(pastedFiles(event.clipboardData)));
}
