// Where the model looked: the attention of the class token to each patch, over the picture and in words.

const RAMP = [
  [0.0, [48, 18, 90], 0.0],
  [0.35, [138, 34, 130], 0.45],
  [0.7, [240, 96, 60], 0.75],
  [1.0, [255, 226, 110], 0.95],
];
const FINE = 24; // pixels of the overlay for each patch

/** Draw attention {rows, columns, values} on a canvas: colour and opacity grow with it. */
export function drawAttention(canvas, { rows, columns, values }) {
  const sorted = [...values].sort((a, b) => a - b);
  const low = sorted[0];
  const high = sorted[Math.floor(0.98 * (sorted.length - 1))]; // a single patch must not leave all others dark
  const small = document.createElement("canvas");
  [small.width, small.height] = [columns, rows];
  const pixels = new ImageData(columns, rows);
  values.forEach((value, index) => {
    const level = high > low ? Math.min((value - low) / (high - low), 1) : 0;
    pixels.data.set(colour(level), 4 * index);
  });
  small.getContext("2d").putImageData(pixels, 0, 0);
  [canvas.width, canvas.height] = [columns * FINE, rows * FINE];
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

function colour(level) {
  const upper = Math.max(RAMP.findIndex(([start]) => start >= level), 1);
  const [[start, from, faint], [end, to, dense]] = [RAMP[upper - 1], RAMP[upper]];
  const share = (level - start) / (end - start);
  const mix = (a, b) => a + share * (b - a);
  return [...from.map((value, channel) => Math.round(mix(value, to[channel]))), Math.round(255 * mix(faint, dense))];
}

const DOWN = ["top", "middle", "bottom"];
const ACROSS = ["left", "centre", "right"];

/** Say in words which ninths of what the model sees it looked at most. */
export function whereItLooked({ rows, columns, values }) {
  const sums = Array(9).fill(0);
  const patches = Array(9).fill(0);
  values.forEach((value, index) => {
    const row = Math.floor((3 * Math.floor(index / columns)) / rows);
    const column = Math.floor((3 * (index % columns)) / columns);
    sums[3 * row + column] += value;
    patches[3 * row + column] += 1;
  });
  const means = sums.map((sum, ninth) => sum / (patches[ninth] || 1));
  const total = means.reduce((a, b) => a + b, 0) || 1;
  const order = means.map((mean, ninth) => [mean / total, ninth]).sort((a, b) => b[0] - a[0]);
  const most = order.slice(0, 2).filter(([share], rank) => rank === 0 || share > 0.2);
  const names = most.map(([, ninth]) => (ninth === 4 ? "centre" : `${DOWN[Math.floor(ninth / 3)]} ${ACROSS[ninth % 3]}`));
  return `Looked most at the ${names.join(" and the ")}`;
}
