/* Parts of the explorer that know nothing of each other. */
const SVG = "http://www.w3.org/2000/svg";
const FATES = ["kept", "brought back", "set aside", "merged token", "dropped"];
const VEILS = [0, 0, 0.66, 0.66, 0.93];

const shape = (name, attributes) => {
  const element = document.createElementNS(SVG, name);
  Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
  return element;
};

const node = (name, className, text) => {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
};

const fill = (select, options, chosen) => {
  select.replaceChildren(
    ...options.map(([value, text]) => {
      const option = node("option", "", text);
      option.value = value;
      return option;
    }),
  );
  select.value = options.some(([value]) => value === chosen) ? chosen : (options[0] || [""])[0];
};

/* Two answers' words, signs and spaces, with what they share: [text, "same" | "gone" | "new"]. */
const changes = (before, after) => {
  const pieces = /[\p{L}\p{N}]+|\s+|[^\s\p{L}\p{N}]/gu;
  const [old, now] = [before, after].map((text) => (text.match(pieces) || []).slice(0, 800));
  const shared = Array.from({ length: old.length + 1 }, () => new Uint16Array(now.length + 1));
  for (let i = old.length - 1; i >= 0; i -= 1) {
    for (let j = now.length - 1; j >= 0; j -= 1) {
      shared[i][j] =
        old[i] === now[j]
          ? shared[i + 1][j + 1] + 1
          : Math.max(shared[i + 1][j], shared[i][j + 1]);
    }
  }
  const found = [];
  const add = (text, kind) => {
    const last = found[found.length - 1];
    if (last && last[1] === kind) last[0] += text;
    else found.push([text, kind]);
  };
  let [i, j] = [0, 0];
  while (i < old.length || j < now.length) {
    if (i < old.length && j < now.length && old[i] === now[j]) {
      add(old[i], "same");
      i += 1;
      j += 1;
    } else if (j >= now.length || (i < old.length && shared[i + 1][j] >= shared[i][j + 1])) {
      add(old[i], "gone");
      i += 1;
    } else {
      add(now[j], "new");
      j += 1;
    }
  }
  return found;
};

/* One arm's answer; words that are not the unpruned model's are marked, and its own struck out. */
const answerCard = (arm, outcome, plain) => {
  const card = node("div", "answer-card");
  card.append(node("p", "label", arm.name));
  const text = node("p", "said");
  if (plain && plain !== outcome) {
    changes(plain.prediction, outcome.prediction).forEach(([words, kind]) =>
      text.append(node({ same: "span", gone: "del", new: "ins" }[kind], "", words)),
    );
  } else {
    text.textContent = outcome.prediction;
  }
  if (!text.textContent.trim()) text.textContent = "(no answer)";
  const facts = [`${outcome.tokens} visual tokens per layer`];
  if (outcome.score !== null) facts.unshift(`score ${percent(outcome.score)}`);
  if (plain && plain !== outcome) {
    facts.push(plain.prediction === outcome.prediction ? "the same answer" : "another answer");
  }
  card.append(text, node("p", "facts-line", facts.join(" · ")));
  return card;
};

/* A token's values at all layers: the line, the chosen layers, and the layer that is shown. */
const drawCurve = (svg, values, layer, chosen) => {
  const top = Math.max(...values) || 1;
  const x = (at) => (values.length > 1 ? 4 + (292 * at) / (values.length - 1) : 150);
  const y = (value) => 76 - (70 * value) / top;
  const line = (at, className) =>
    shape("line", { x1: x(at - 1), x2: x(at - 1), y1: 2, y2: 78, class: className });
  const points = values.map((value, at) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  const at = layer - 1;
  svg.replaceChildren(
    shape("line", { x1: 0, x2: 300, y1: 76, y2: 76, class: "axis" }),
    ...chosen.map((one) => line(one, "chosen")),
    line(layer, "now"),
    shape("polyline", { points }),
    shape("line", { x1: x(at), x2: x(at), y1: y(values[at]), y2: y(values[at]), class: "dot" }),
  );
};

/* What a stage left of each token: a veil, and marks for those that came back and merged ones. */
const drawFates = (sheet, places, fates, size) => {
  const veils = Float64Array.from(fates, (fate) => VEILS[fate]);
  places.paint(sheet.querySelector("canvas"), veils, (pixels, at, veil) =>
    pixels.set([0, 0, 0, Math.round(255 * veil)], at),
  );
  const marks = sheet.querySelector("svg");
  marks.setAttribute("viewBox", `0 0 ${size[0]} ${size[1]}`);
  const [across, down] = [size[0] / places.width, size[1] / places.height];
  const radius = Math.min(across, down);
  marks.replaceChildren();
  places.corners.forEach(([x0, y0, x1, y1], token) => {
    const [x, y, width, height] = [x0 * across, y0 * down, (x1 - x0) * across, (y1 - y0) * down];
    if (!width) return;
    if (fates[token] === 1) {
      marks.append(shape("rect", { x, y, width, height, class: "halo" }));
      marks.append(shape("rect", { x, y, width, height, class: "back" }));
    } else if (fates[token] === 3) {
      const r = (radius * (x1 - x0)) / 6;
      marks.append(shape("circle", { cx: x + width / 2, cy: y + height / 2, r, class: "seed" }));
    }
  });
};

/* How alike layers rank tokens: a square of cells, by pointer and by arrow keys. */
class Correlation {
  constructor(place, say, choose) {
    Object.assign(this, { place, say, choose, values: [], row: 0, column: 0 });
    place.addEventListener("pointermove", (event) => this.move(...this.cell(event)));
    place.addEventListener("click", (event) => {
      this.move(...this.cell(event));
      this.choose(this.row + 1, this.column + 1);
    });
    place.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
      const step = by[event.key];
      if (step) this.move(this.row + step[0], this.column + step[1]);
      else if (event.key === "Enter" || event.key === " ") this.choose(this.row + 1, this.column + 1);
      else return;
      event.preventDefault();
    });
  }

  show(values) {
    if (values === this.values) return;
    this.values = values;
    const side = values.length;
    const canvas = this.place.querySelector("canvas");
    [canvas.width, canvas.height] = [side, side];
    const context = canvas.getContext("2d");
    const image = context.createImageData(side, side);
    values.flat().forEach((value, at) => {
      const colour = value < 0 ? [37, 99, 190] : [203, 64, 52];
      image.data.set([...colour, Math.round(255 * Math.min(1, Math.abs(value)))], 4 * at);
    });
    context.putImageData(image, 0, 0);
    this.move(0, Math.min(1, side - 1));
  }

  cell(event) {
    const box = this.place.getBoundingClientRect();
    const side = this.values.length;
    return [
      Math.floor(((event.clientY - box.top) / box.height) * side),
      Math.floor(((event.clientX - box.left) / box.width) * side),
    ];
  }

  move(row, column) {
    const side = this.values.length;
    [this.row, this.column] = [row, column].map((at) => Math.min(side - 1, Math.max(0, at)));
    const { style } = this.place.querySelector(".cell");
    style.width = style.height = `${100 / side}%`;
    style.left = `${(100 * this.column) / side}%`;
    style.top = `${(100 * this.row) / side}%`;
    const value = this.values[this.row][this.column].toFixed(2).replace("-", "−");
    this.say(`layers ${this.row + 1} and ${this.column + 1}: ${value}`);
  }
}
