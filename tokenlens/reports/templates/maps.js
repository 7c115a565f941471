"use strict";
/* What everything with maps shares: stored numbers, the tokens' places, and painting by `palette`. */
const bytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
const percent = (share) => {
  const number = Number((100 * share).toPrecision(3));
  if (!number || number >= 0.001) return `${number} %`;
  const [digits, power] = number.toExponential().split("e-");
  return `${digits} × 10⁻${[...power].map((sign) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[sign]).join("")} %`;
};

/* Attention maps of one picture, [word, layer, head, token], as `map_data` stores them. */
class Maps {
  constructor(data) {
    Object.assign(this, data);
    const stored = bytes(data.maps);
    this.steps = data.levels > 255 ? new Uint16Array(stored.buffer) : stored;
    this.count = this.steps.length / data.tops.length;
  }

  index(word, layer, head) {
    return (word * this.layers + layer - 1) * (this.heads + 1) + head;
  }

  /* A map's values as they were stored: a step times the map's maximum, over all steps. */
  values(word, layer, head) {
    const at = this.index(word, layer, head);
    const top = this.tops[at];
    return Float64Array.from(
      this.steps.subarray(at * this.count, (at + 1) * this.count),
      (step) => (step * top) / this.levels,
    );
  }

  top(word, layer, head) {
    return this.tops[this.index(word, layer, head)];
  }

  /* The largest value of a word's maps: of the means, or of all heads. */
  sharedTop(word, head) {
    const heads = this.heads + 1;
    const each = heads * this.layers;
    const tops = this.tops.slice(word * each, (word + 1) * each);
    return Math.max(...tops.filter((_, at) => (head === 0) === (at % heads === 0)));
  }

  /* One token's values at all layers. */
  curve(word, head, token) {
    return Array.from({ length: this.layers }, (_, at) => {
      const map = this.index(word, at + 1, head);
      return (this.steps[map * this.count + token] * this.tops[map]) / this.levels;
    });
  }
}

/* Where tokens are: pixels of a raster that is laid over the picture. */
class Places {
  constructor({ raster, corners }) {
    [this.width, this.height] = raster;
    this.corners = corners;
  }

  /* Paint each cell by `colour` of its tokens' mean value, which sets RGBA at an offset. */
  paint(canvas, values, colour) {
    const { width, height } = this;
    const total = new Float64Array(width * height);
    const seen = new Uint16Array(width * height);
    this.corners.forEach(([x0, y0, x1, y1], token) => {
      for (let y = y0; y < y1; y += 1) {
        for (let x = x0; x < x1; x += 1) {
          total[y * width + x] += values[token];
          seen[y * width + x] += 1;
        }
      }
    });
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    total.forEach((sum, cell) => {
      if (seen[cell]) colour(image.data, 4 * cell, sum / seen[cell]);
    });
    context.putImageData(image, 0, 0);
  }

  paintMap(canvas, values, top) {
    this.paint(canvas, values, (pixels, at, value) => {
      const level = Math.min(255, Math.round((255 * value) / (top || 1)));
      pixels.set(palette.subarray(4 * level, 4 * level + 4), at);
    });
  }

  /* The last token that covers a place; an overview lies under the finer views. */
  tokenAt(frame, event) {
    const box = frame.getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * this.width);
    const y = Math.floor(((event.clientY - box.top) / box.height) * this.height);
    return this.tokenOn(x, y);
  }

  tokenOn(x, y) {
    return this.corners.findLastIndex(
      ([x0, y0, x1, y1]) => x >= x0 && x < x1 && y >= y0 && y < y1,
    );
  }
}

const paintBar = (canvas) => {
  const context = canvas.getContext("2d");
  const image = context.createImageData(256, 1);
  image.data.set(palette);
  context.putImageData(image, 0, 0);
};

/* Left and right within a place, where they are no control's own. */
const onArrows = (place, step) =>
  place.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const own = event.target.closest("input, select, [data-keys]");
    if (!by || own || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    step(by);
  });
