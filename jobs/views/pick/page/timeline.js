// The scrubber: a range input for pointer and keyboard, over a canvas with the prompted frames.

const THUMB = 14;

export class Timeline {
  constructor(input, canvas) {
    this.input = input;
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.marks = [];
    this.frames = 1;
    this.range = [0, 1];
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  // marks: [{frame, colours}]; no colours: a suggestion; range: the part of the video that is annotated, end exclusive.
  set(frames, frame, marks, range) {
    this.frames = frames;
    this.marks = marks;
    this.range = range;
    this.input.max = String(frames - 1);
    this.input.value = String(frame);
    this.draw();
  }

  draw() {
    const ratio = devicePixelRatio, width = this.canvas.clientWidth, height = this.canvas.clientHeight;
    this.canvas.width = Math.max(1, Math.round(width * ratio));
    this.canvas.height = Math.max(1, Math.round(height * ratio));
    const context = this.context;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const x = (frame) => THUMB / 2 + (this.frames > 1 ? frame / (this.frames - 1) : 0) * (width - THUMB);
    const middle = height / 2;
    const bar = (from, to, colour) => {
      context.fillStyle = colour;
      context.beginPath();
      context.roundRect(from, middle - 2, Math.max(4, to - from), 4, 2);
      context.fill();
    };
    bar(x(0), x(this.frames - 1), "#1e2530");
    bar(x(this.range[0]), x(this.range[1] - 1), "#333f50");
    bar(x(this.range[0]), Math.max(x(this.range[0]), Math.min(x(Number(this.input.value)), x(this.range[1] - 1))), "#4a78b5");
    for (const { frame, colours } of this.marks) {
      if (!colours.length) {
        context.strokeStyle = "#f5b83d";
        context.lineWidth = 1.5;
        context.strokeRect(Math.round(x(frame)) - 2, middle - 6, 4, 12);
        continue;
      }
      const part = 16 / colours.length;
      colours.forEach((colour, i) => {
        context.fillStyle = colour;
        context.fillRect(Math.round(x(frame)) - 1.5, middle - 8 + i * part, 3, part);
      });
    }
  }
}
