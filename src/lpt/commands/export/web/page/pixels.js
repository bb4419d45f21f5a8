// From a picture file to the numbers of the network, exactly as LPT does it with Pillow: laid on white, resized with
// antialiasing in two passes of fixed-point sums. Nothing here depends on the page.

const PRECISION_BITS = 22; // of Pillow's weights for 8-bit pictures: 32 - 8 - 2
const HALF = 1 << (PRECISION_BITS - 1);
const STRIP_PIXELS = 1 << 21; // a large photo is read in strips of rows, so that it takes little memory
const MOST_PIXELS = 178956970;

const FILTERS = {
  bilinear: { support: 1, weight: (x) => (Math.abs(x) < 1 ? 1 - Math.abs(x) : 0) },
  bicubic: { support: 2, weight: bicubic },
};

/** A picture that this page cannot take, with a reason that a person understands. */
export class PictureError extends Error {}

/**
 * Decode a picture and resize it for the network.
 *
 * @param {Blob} blob the picture file
 * @param {{height: number, width: number, interpolation: string, tall_first: boolean, deep: boolean}} how size of the
 *   result; the filter; whether Pillow resizes tall pictures along their columns first; whether pictures of more than
 *   8 bits need what a browser cannot give
 * @returns {Promise<Uint8Array>} [height, width, 3]
 */
export async function prepare(blob, how) {
  const bitmap = await decode(blob, how.deep);
  try {
    return resize(bitmap, how);
  } finally {
    bitmap.close();
  }
}

async function decode(blob, deep) {
  if (blob.size === 0) throw new PictureError("The file is empty.");
  if (deep && (await isDeepPng(blob))) {
    throw new PictureError("It has 16 bits a channel; browsers read only 8. Classify it with lpt predict.");
  }
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  } catch {
    throw new PictureError("This browser cannot read it as a picture. Choose a JPEG, PNG or WebP file.");
  }
  if (bitmap.width * bitmap.height > MOST_PIXELS) {
    bitmap.close();
    throw new PictureError(`It has more than ${MOST_PIXELS.toLocaleString()} pixels. Make it smaller first.`);
  }
  return bitmap;
}

/** Return whether a file is a PNG of 16 bits a channel. */
async function isDeepPng(blob) {
  const start = new Uint8Array(await blob.slice(0, 25).arrayBuffer());
  return start.length === 25 && start[1] === 0x50 && start[2] === 0x4e && start[3] === 0x47 && start[24] === 16;
}

/** Return the weights of the inputs in each output, along one direction, as whole numbers: those of Pillow. */
function weights(inputs, outputs, interpolation) {
  const filter = FILTERS[interpolation];
  const scale = inputs / outputs;
  const stretch = Math.max(scale, 1); // antialiasing: a smaller picture averages over more pixels
  const support = filter.support * stretch;
  const step = 1 / stretch;
  const most = Math.ceil(support) * 2 + 1;
  const starts = new Int32Array(outputs);
  const lengths = new Int32Array(outputs);
  const values = new Int32Array(outputs * most);
  const row = new Float64Array(most);
  for (let place = 0; place < outputs; place++) {
    const center = (place + 0.5) * scale;
    const start = Math.max(Math.trunc(center - support + 0.5), 0);
    const length = Math.min(Math.trunc(center + support + 0.5), inputs) - start;
    let total = 0;
    for (let x = 0; x < length; x++) {
      row[x] = filter.weight((x + start - center + 0.5) * step);
      total += row[x];
    }
    for (let x = 0; x < length; x++) {
      const share = (total === 0 ? row[x] : row[x] / total) * (1 << PRECISION_BITS);
      values[place * most + x] = Math.trunc(share < 0 ? share - 0.5 : share + 0.5);
    }
    starts[place] = start;
    lengths[place] = length;
  }
  return { count: outputs, most, starts, lengths, values };
}

/** Resize a bitmap, in the order of passes that Pillow takes, which shows in the last bit. */
function resize(bitmap, { height, width, interpolation, tall_first: tallFirst }) {
  const rows = weights(bitmap.height, height, interpolation);
  const columns = weights(bitmap.width, width, interpolation);
  const less = bitmap.height - height;
  const downFirst = tallFirst && less > 0 && less > (bitmap.width - width) * 2;
  return (downFirst ? downThenAlong : alongThenDown)(bitmap, rows, columns);
}

function alongThenDown(bitmap, rows, columns) {
  const [top, bottom] = used(rows);
  const narrow = new Uint8Array((bottom - top) * columns.count * 3);
  for (const { y, height, data } of strips(bitmap, 0, top, bitmap.width, bottom, true)) {
    along(data, bitmap.width, height, 0, columns, narrow.subarray((y - top) * columns.count * 3));
  }
  return down(narrow, columns.count * 3, top, rows);
}

function downThenAlong(bitmap, rows, columns) {
  const [top, bottom] = used(rows);
  const [left, right] = used(columns);
  const width = right - left;
  const low = new Uint8Array(rows.count * width * 4);
  for (const strip of strips(bitmap, left, top, right, bottom, false)) {
    const part = down(strip.data, strip.width * 4, top, rows);
    for (let y = 0; y < rows.count; y++) {
      const row = part.subarray(y * strip.width * 4, (y + 1) * strip.width * 4);
      low.set(row, (y * width + strip.x - left) * 4);
    }
  }
  const target = new Uint8Array(rows.count * columns.count * 3);
  along(low, width, rows.count, left, columns, target);
  return target;
}

/** Return the first input that is used, and the one behind the last. */
function used({ count, starts, lengths }) {
  return [starts[0], starts[count - 1] + lengths[count - 1]];
}

/** Yield parts of a bitmap as RGBA pixels on white paper: strips of whole rows, or of whole columns. */
function* strips(bitmap, left, top, right, bottom, ofRows) {
  const most = Math.max(Math.floor(STRIP_PIXELS / (ofRows ? right - left : bottom - top)), 1);
  const [wide, high] = ofRows ? [right - left, Math.min(most, bottom - top)] : [Math.min(most, right - left), bottom - top];
  const paper = new OffscreenCanvas(wide, high).getContext("2d", { alpha: false, willReadFrequently: true });
  if (!paper) throw new PictureError("It is too large for this browser. Make it smaller first.");
  paper.imageSmoothingEnabled = false;
  paper.fillStyle = "#fff";
  for (let y = top; y < bottom; y += high) {
    for (let x = left; x < right; x += wide) {
      const [width, height] = [Math.min(wide, right - x), Math.min(high, bottom - y)];
      paper.fillRect(0, 0, width, height);
      paper.drawImage(bitmap, -x, -y);
      yield { x, y, width, height, data: paper.getImageData(0, 0, width, height).data };
    }
  }
}

/** Resize rows of RGBA pixels, which begin with column `left` of the picture, to rows of RGB ones. */
function along(data, width, height, left, columns, target) {
  const { count, most, starts, lengths, values } = columns;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < count; x++) {
      let red = HALF;
      let green = HALF;
      let blue = HALF;
      let pixel = (y * width + starts[x] - left) * 4;
      const end = x * most + lengths[x];
      for (let k = x * most; k < end; k++, pixel += 4) {
        const weight = values[k];
        red = (red + Math.imul(data[pixel], weight)) | 0;
        green = (green + Math.imul(data[pixel + 1], weight)) | 0;
        blue = (blue + Math.imul(data[pixel + 2], weight)) | 0;
      }
      const place = (y * count + x) * 3;
      target[place] = clip(red);
      target[place + 1] = clip(green);
      target[place + 2] = clip(blue);
    }
  }
}

/** Resize the columns of a table of bytes, whose first row is row `top` of the picture. */
function down(table, width, top, rows) {
  const target = new Uint8Array(rows.count * width);
  const sums = new Int32Array(width);
  for (let y = 0; y < rows.count; y++) {
    sums.fill(HALF);
    for (let k = 0; k < rows.lengths[y]; k++) {
      const weight = rows.values[y * rows.most + k];
      const first = (rows.starts[y] - top + k) * width;
      for (let x = 0; x < width; x++) sums[x] += Math.imul(table[first + x], weight);
    }
    for (let x = 0; x < width; x++) target[y * width + x] = clip(sums[x]);
  }
  return target;
}

function clip(sum) {
  const value = sum >> PRECISION_BITS;
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

function bicubic(x) {
  const a = -0.5;
  x = Math.abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}
