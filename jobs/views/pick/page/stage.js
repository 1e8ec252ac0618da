// The canvas: the frame, the masks and boxes over it, zoom and pan. Crisp at any pixel ratio.

const MOST_ZOOM = 64; // screen pixels per pixel of the video
const PIXELATED_FROM = 3;
export const HANDLE = 7; // half the reach of a box's handles, in screen pixels

export class Stage extends EventTarget {
  constructor(canvas) {
    super();
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.size = null; // {width, height} of the video
    this.bitmap = null;
    this.scale = 1; // CSS pixels per pixel of the video
    this.left = 0;
    this.top = 0;
    this.fitted = true;
    this.paint = () => {}; // draws over the frame; set by the app
    this.pending = false;
    new ResizeObserver(() => this.#resized()).observe(canvas);
    this.#watchRatio();
  }

  show(bitmap, size) {
    const other = !this.size || size.width !== this.size.width || size.height !== this.size.height;
    this.bitmap = bitmap;
    this.size = size;
    if (other) this.fit();
    this.draw();
  }

  clear() {
    this.bitmap = null;
    this.draw();
  }

  fit() {
    if (!this.size) return;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const margin = 20;
    this.scale = Math.max(0.02, Math.min((width - 2 * margin) / this.size.width, (height - 2 * margin) / this.size.height));
    this.left = (width - this.size.width * this.scale) / 2;
    this.top = (height - this.size.height * this.scale) / 2;
    this.fitted = true;
    this.moved();
  }

  // Zooms so that the point at CSS position (x, y) of the canvas stays where it is.
  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    if (!this.size) return;
    const scale = Math.min(MOST_ZOOM, Math.max(0.05, this.scale * factor));
    this.left = x - ((x - this.left) * scale) / this.scale;
    this.top = y - ((y - this.top) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.moved();
  }

  pan(dx, dy) {
    this.left += dx;
    this.top += dy;
    this.fitted = false;
    this.moved();
  }

  moved() {
    this.dispatchEvent(new Event("moved"));
    this.draw();
  }

  // CSS position in the window -> pixel of the video (not rounded).
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left - this.left) / this.scale, (event.clientY - box.top - this.top) / this.scale];
  }

  // Pixel of the video -> CSS position on the canvas.
  place(x, y) {
    return [this.left + x * this.scale, this.top + y * this.scale];
  }

  draw() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.#draw();
    });
  }

  #draw() {
    const ratio = devicePixelRatio, context = this.context;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.bitmap) return;
    const scale = this.scale * ratio;
    context.setTransform(scale, 0, 0, scale, this.left * ratio, this.top * ratio);
    context.imageSmoothingEnabled = scale < PIXELATED_FROM;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.bitmap, 0, 0, this.size.width, this.size.height);
    this.paint(context, this);
  }

  #resized() {
    const ratio = devicePixelRatio;
    this.canvas.width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    this.canvas.height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    if (this.fitted) this.fit();
    this.draw();
  }

  // A window that is moved to another screen, or zoomed, has another ratio.
  #watchRatio() {
    matchMedia(`(resolution: ${devicePixelRatio}dppx)`).addEventListener("change", () => {
      this.#resized();
      this.#watchRatio();
    }, { once: true });
  }
}

// Strokes a path given in pixels of the video with lines of constant width on the screen: dark below, colour above.
export function strokeTwice(context, stage, path, colour, width, dash = []) {
  context.lineJoin = "round";
  context.lineCap = dash.length ? "butt" : "round";
  context.setLineDash([]);
  context.strokeStyle = "rgba(0, 0, 0, 0.55)";
  context.lineWidth = (width + 1.6) / stage.scale;
  context.stroke(path);
  context.setLineDash(dash.map((part) => part / stage.scale));
  context.strokeStyle = colour;
  context.lineWidth = width / stage.scale;
  context.stroke(path);
  context.setLineDash([]);
}

// A small tag with text, its lower left corner at pixel (x, y) of the video, kept on the canvas.
export function tag(context, stage, x, y, text, colour) {
  const ratio = devicePixelRatio;
  const [left, top] = stage.place(x, y);
  context.save();
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.font = "600 12px system-ui, sans-serif";
  const width = context.measureText(text).width + 12, height = 19;
  const px = Math.round(Math.max(2, Math.min(left, stage.canvas.clientWidth - width - 2)));
  const py = Math.round(Math.max(2, Math.min(top - height - 3, stage.canvas.clientHeight - height - 2)));
  context.fillStyle = colour;
  context.strokeStyle = "rgba(0, 0, 0, 0.5)";
  context.beginPath();
  context.roundRect(px, py, width, height, 5);
  context.fill();
  context.stroke();
  context.fillStyle = inkOn(colour);
  context.textBaseline = "middle";
  context.fillText(text, px + 6, py + height / 2 + 0.5);
  context.restore();
}

// Black or white, whichever is readable on the colour #rrggbb.
export function inkOn(colour) {
  const [red, green, blue] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 120 ? "#000000" : "#ffffff";
}
