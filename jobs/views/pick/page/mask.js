// A mask of a whole frame: one byte per pixel, row by row, and the box that holds everything that is set.

export class Mask {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.data = new Uint8Array(width * height);
    this.bounds = null; // {x0, y0, x1, y1}, ends exclusive; may be larger than what is set, never smaller
  }

  // counts: lengths of COCO runs, column by column, beginning with zeros.
  static fromCounts(counts, width, height) {
    const mask = new Mask(width, height);
    const data = mask.data;
    let position = 0;
    let x0 = width, y0 = height, x1 = 0, y1 = 0;
    for (let i = 0; i < counts.length; i++) {
      const run = counts[i];
      if (i % 2 && run) {
        let x = Math.floor(position / height), y = position - x * height;
        const last = Math.floor((position + run - 1) / height);
        x0 = Math.min(x0, x);
        x1 = Math.max(x1, last + 1);
        if (last > x) { y0 = 0; y1 = height; } else { y0 = Math.min(y0, y); y1 = Math.max(y1, y + run); }
        for (let left = run; left > 0; left--) {
          data[y * width + x] = 1;
          if (++y === height) { y = 0; x++; }
        }
      }
      position += run;
    }
    if (x1 > x0) mask.bounds = { x0, y0, x1, y1 };
    return mask;
  }

  toCounts() {
    const { width, height, data } = this;
    const counts = [];
    let end = 0; // of the last run, in column order
    const { x0, y0, x1, y1 } = this.bounds ?? { x0: 0, y0: 0, x1: 0, y1: 0 };
    for (let x = x0; x < x1; x++) {
      for (let y = y0; y < y1; y++) {
        if (!data[y * width + x]) continue;
        let stop = y + 1;
        while (stop < y1 && data[stop * width + x]) stop++;
        const start = x * height + y;
        if (counts.length && start === end) counts[counts.length - 1] += stop - y;
        else counts.push(start - end, stop - y);
        end = x * height + stop;
        y = stop;
      }
    }
    counts.push(width * height - end);
    return counts;
  }

  isEmpty() {
    return !this.bounds || !this.data.includes(1);
  }

  has(x, y) {
    x = Math.floor(x);
    y = Math.floor(y);
    return x >= 0 && y >= 0 && x < this.width && y < this.height && this.data[y * this.width + x] === 1;
  }

  area() {
    let sum = 0;
    this.#rows((row) => { for (const value of row) sum += value; });
    return sum;
  }

  // Intersection over union with another mask, whose areas are known.
  overlap(other, area, otherArea) {
    const a = this.bounds, b = other.bounds;
    if (!a || !b) return 0;
    const x0 = Math.max(a.x0, b.x0), x1 = Math.min(a.x1, b.x1), y1 = Math.min(a.y1, b.y1);
    let both = 0;
    for (let y = Math.max(a.y0, b.y0); y < y1; y++) {
      for (let i = y * this.width + x0; i < y * this.width + x1; i++) both += this.data[i] & other.data[i];
    }
    return both / (area + otherArea - both);
  }

  // All pixels whose centres lie within `radius` of the line from (ax, ay) to (bx, by); returns the box touched.
  stroke(ax, ay, bx, by, radius, value) {
    const dx = bx - ax, dy = by - ay;
    const length = dx * dx + dy * dy;
    const reach = radius + 0.01;
    const box = this.#clip(
      Math.floor(Math.min(ax, bx) - reach), Math.floor(Math.min(ay, by) - reach),
      Math.ceil(Math.max(ax, bx) + reach), Math.ceil(Math.max(ay, by) + reach),
    );
    if (!box) return null;
    const square = radius * radius;
    for (let y = box.y0; y < box.y1; y++) {
      for (let x = box.x0; x < box.x1; x++) {
        const px = x + 0.5 - ax, py = y + 0.5 - ay;
        const t = length ? Math.max(0, Math.min(1, (px * dx + py * dy) / length)) : 0;
        const ex = px - t * dx, ey = py - t * dy;
        if (ex * ex + ey * ey <= square) this.data[y * this.width + x] = value;
      }
    }
    // The pixel under the pointer counts even where the brush is smaller than the way to its centre.
    if (bx >= 0 && by >= 0 && bx < this.width && by < this.height) {
      this.data[Math.floor(by) * this.width + Math.floor(bx)] = value;
    }
    if (value) this.#include(box);
    return box;
  }

  // All pixels whose centres lie inside the polygon (even-odd); returns the box touched.
  polygon(points, value) {
    const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
    const box = this.#clip(
      Math.floor(Math.min(...xs)), Math.floor(Math.min(...ys)), Math.ceil(Math.max(...xs)), Math.ceil(Math.max(...ys)),
    );
    if (!box) return null;
    for (let y = box.y0; y < box.y1; y++) {
      const level = y + 0.5;
      const cuts = [];
      for (let i = 0; i < points.length; i++) {
        const [ax, ay] = points[i], [bx, by] = points[(i + 1) % points.length];
        if (ay <= level !== by <= level) cuts.push(ax + ((level - ay) * (bx - ax)) / (by - ay));
      }
      cuts.sort((a, b) => a - b);
      for (let i = 0; i + 1 < cuts.length; i += 2) {
        const from = Math.max(box.x0, Math.ceil(cuts[i] - 0.5)), to = Math.min(box.x1, Math.ceil(cuts[i + 1] - 0.5));
        if (to > from) this.data.fill(value, y * this.width + from, y * this.width + to);
      }
    }
    if (value) this.#include(box);
    return box;
  }

  // The outline along the edges of pixels, in pixels of the video.
  outline() {
    const path = new Path2D();
    if (!this.bounds) return path;
    const { width, height, data } = this;
    const { x0, y0, x1, y1 } = this.bounds;
    const at = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : data[y * width + x]);
    for (let y = y0; y <= y1; y++) {
      for (let x = x0; x < x1; x++) {
        if (at(x, y) === at(x, y - 1)) continue;
        const start = x;
        while (x < x1 && at(x, y) !== at(x, y - 1)) x++;
        path.moveTo(start, y);
        path.lineTo(x, y);
      }
    }
    for (let x = x0; x <= x1; x++) {
      for (let y = y0; y < y1; y++) {
        if (at(x, y) === at(x - 1, y)) continue;
        const start = y;
        while (y < y1 && at(x, y) !== at(x - 1, y)) y++;
        path.moveTo(x, start);
        path.lineTo(x, y);
      }
    }
    return path;
  }

  // The tightest box, or null.
  tight() {
    if (!this.bounds) return null;
    let x0 = this.width, y0 = this.height, x1 = 0, y1 = 0;
    this.#rows((row, y, left) => {
      const first = row.indexOf(1);
      if (first < 0) return;
      x0 = Math.min(x0, left + first);
      x1 = Math.max(x1, left + row.lastIndexOf(1) + 1);
      y0 = Math.min(y0, y);
      y1 = y + 1;
    });
    return x1 > x0 ? { x0, y0, x1, y1 } : null;
  }

  #rows(visit) {
    if (!this.bounds) return;
    const { x0, y0, x1, y1 } = this.bounds;
    for (let y = y0; y < y1; y++) visit(this.data.subarray(y * this.width + x0, y * this.width + x1), y, x0);
  }

  #clip(x0, y0, x1, y1) {
    const box = {
      x0: Math.max(0, x0), y0: Math.max(0, y0), x1: Math.min(this.width, x1), y1: Math.min(this.height, y1),
    };
    return box.x1 > box.x0 && box.y1 > box.y0 ? box : null;
  }

  #include(box) {
    const old = this.bounds ?? box;
    this.bounds = {
      x0: Math.min(old.x0, box.x0), y0: Math.min(old.y0, box.y0),
      x1: Math.max(old.x1, box.x1), y1: Math.max(old.y1, box.y1),
    };
  }
}

// A mask painted in one colour, kept on a canvas of the video's size, so that it is drawn by the GPU.
export class Layer {
  constructor(mask, colour) {
    this.mask = mask;
    this.canvas = document.createElement("canvas");
    this.canvas.width = mask.width;
    this.canvas.height = mask.height;
    this.context = this.canvas.getContext("2d");
    this.rgb = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
    this.path = null; // of the outline, and
    this.box = undefined; // the box, until asked for
    if (mask.bounds) this.update(mask.bounds);
  }

  update(box) {
    const width = box.x1 - box.x0, height = box.y1 - box.y0;
    const image = new ImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    const [red, green, blue] = this.rgb;
    const colour = (255 << 24) | (blue << 16) | (green << 8) | red;
    for (let y = 0; y < height; y++) {
      const row = (y + box.y0) * this.mask.width + box.x0;
      for (let x = 0; x < width; x++) if (this.mask.data[row + x]) pixels[y * width + x] = colour;
    }
    this.context.putImageData(image, box.x0, box.y0);
    this.path = null;
    this.box = undefined;
    this.sum = undefined;
  }

  area() {
    this.sum ??= this.mask.area();
    return this.sum;
  }

  // The tightest box around the mask, or null.
  tight() {
    if (this.box === undefined) this.box = this.mask.tight();
    return this.box;
  }

  outline() {
    this.path ??= this.mask.outline();
    return this.path;
  }
}
