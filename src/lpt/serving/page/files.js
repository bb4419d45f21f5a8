// Pictures from what a person drops, pastes or picks.

const ENDINGS = /\.(jpe?g|png|gif|webp|bmp|tiff?|avif|heic|heif|jxl|jp2|ppm)$/i;

/** Split files into pictures and the rest. */
export function sortOut(files) {
  const [pictures, others] = [[], []];
  for (const file of files) (file.type.startsWith("image/") || ENDINGS.test(file.name) ? pictures : others).push(file);
  return { pictures, others };
}

/** Return the files of a drop, also those in folders. */
export async function droppedFiles(transfer) {
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
export function pastedFiles(transfer) {
  return [...transfer.files].map((file) => {
    if (file.name !== "image.png") return file;
    pasted += 1;
    return new File([file], `Pasted picture ${pasted}.png`, { type: file.type });
  });
}
