
"use strict";
(() => {
  const bytes = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const palette = bytes(document.body.dataset.palette);
  const percent = (share) => `${Number((100 * share).toPrecision(3))} %`;

  class Case {
    constructor(article) {
      this.article = article;
      this.data = JSON.parse(this.find(".data").textContent);
      this.maps = bytes(this.data.maps);
      this.count = this.data.corners.length;
      this.word = 0;
      this.head = 0;
      this.buttons = [...article.querySelectorAll(".words button")];
      this.layer = Math.ceil(this.data.layers / 2);
      this.pointed = -1;
      this.connect();
      this.paintBar();
      this.show();
    }

    find(selector) {
      return this.article.querySelector(selector);
    }

    index(head) {
      return (this.word * this.data.layers + this.layer - 1) * (this.data.heads + 1) + head;
    }

    /* The values of one map, as they were stored: a byte times the map's maximum, over 255. */
    values(head) {
      const at = this.index(head);
      const top = this.data.tops[at];
      return Float64Array.from(
        this.maps.subarray(at * this.count, (at + 1) * this.count),
        (level) => (level * top) / 255,
      );
    }

    /* What the brightest colour stands for. */
    top(head) {
      if (this.find(".scale").value === "map") return this.data.tops[this.index(head)];
      const each = (this.data.heads + 1) * this.data.layers;
      const tops = this.data.tops.slice(this.word * each, (this.word + 1) * each);
      const heads = this.data.heads + 1;
      return Math.max(...tops.filter((_, at) => (head === 0) === (at % heads === 0)));
    }

    /* Tokens laid out over the picture: where some overlap, their mean. */
    paint(canvas, head) {
      const [width, height] = this.data.raster;
      const values = this.values(head);
      const top = this.top(head) || 1;
      const total = new Float64Array(width * height);
      const seen = new Uint16Array(width * height);
      this.data.corners.forEach(([x0, y0, x1, y1], token) => {
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
        if (!seen[cell]) return;
        const level = Math.min(255, Math.round((255 * sum) / seen[cell] / top));
        image.data.set(palette.subarray(4 * level, 4 * level + 4), 4 * cell);
      });
      context.putImageData(image, 0, 0);
      return values;
    }

    paintBar() {
      const context = this.find(".bar").getContext("2d");
      const image = context.createImageData(256, 1);
      image.data.set(palette);
      context.putImageData(image, 0, 0);
    }

    show() {
      const shown = this.head === "all" ? 0 : this.head;
      this.current = this.paint(this.find(".map"), shown);
      const top = this.top(shown);
      this.buttons.forEach((button, at) => button.setAttribute("aria-pressed", at === this.word));
      this.find(".layer").value = this.layer;
      this.find(".layer-number").textContent = this.layer;
      this.find(".half").textContent = percent(top / 2);
      this.find(".top-value").textContent = percent(top);
      const sum = this.current.reduce((one, other) => one + other, 0);
      const heads = shown ? `head ${shown}` : "mean of heads";
      const word = this.data.words[this.word];
      this.find(".what").textContent = `“${word}” · layer ${this.layer} · ${heads}`;
      this.find(".total").textContent = `On the whole picture: ${percent(sum)}.`;
      this.showHeads();
      this.point(this.pointed);
    }

    showHeads() {
      const place = this.find(".heads");
      place.hidden = this.head !== "all";
      if (place.hidden) return;
      if (!place.children.length) {
        for (let head = 1; head <= this.data.heads; head += 1) place.append(this.small(head));
      }
      [...place.children].forEach((button, at) => {
        this.paint(button.querySelector("canvas"), at + 1);
        const top = percent(this.data.tops[this.index(at + 1)]);
        button.querySelector("span").textContent = `head ${at + 1} · up to ${top}`;
      });
    }

    /* A small map of one head; pressed, it is the one that is shown. */
    small(head) {
      const button = document.createElement("button");
      button.type = "button";
      const frame = document.createElement("div");
      frame.className = "frame";
      const photo = this.find(".photo").cloneNode();
      photo.alt = "";
      const canvas = document.createElement("canvas");
      canvas.className = "map raster";
      frame.append(photo, canvas);
      button.append(frame, document.createElement("span"));
      button.addEventListener("click", () => this.choose(head));
      return button;
    }

    choose(head) {
      this.head = head;
      this.find(".head").value = String(head);
      this.show();
    }

    step(by) {
      this.layer = Math.min(this.data.layers, Math.max(1, this.layer + by));
      this.show();
    }

    point(token) {
      this.pointed = token;
      this.find(".value").textContent =
        token < 0 ? "" : `token ${token + 1}: ${percent(this.current[token])}`;
    }

    /* The last token that covers a place; an overview lies under the finer views. */
    tokenAt(event) {
      const frame = this.find(".frame").getBoundingClientRect();
      const [width, height] = this.data.raster;
      const x = Math.floor(((event.clientX - frame.left) / frame.width) * width);
      const y = Math.floor(((event.clientY - frame.top) / frame.height) * height);
      return this.data.corners.findLastIndex(
        ([x0, y0, x1, y1]) => x >= x0 && x < x1 && y >= y0 && y < y1,
      );
    }

    connect() {
      this.buttons.forEach((button, at) =>
        button.addEventListener("click", () => {
          this.word = at;
          this.show();
        }),
      );
      this.find(".layer").addEventListener("input", (event) => {
        this.layer = Number(event.target.value);
        this.show();
      });
      this.find(".head").addEventListener("change", (event) => {
        const { value } = event.target;
        this.choose(value === "all" ? value : Number(value));
      });
      this.find(".scale").addEventListener("change", () => this.show());
      this.find(".on").addEventListener("change", (event) => {
        this.find(".map").hidden = !event.target.checked;
        this.find(".photo").classList.toggle("dimmed", event.target.checked);
      });
      const frame = this.find(".frame");
      frame.addEventListener("pointermove", (event) => this.point(this.tokenAt(event)));
      frame.addEventListener("pointerleave", () => this.point(-1));
      for (const hidden of [".map", ".controls", ".live"]) this.find(hidden).hidden = false;
      for (const still of [".mean", ".static"]) this.find(still).hidden = true;
    }
  }

  const cases = [...document.querySelectorAll(".case")].map((article) => new Case(article));
  let active = cases[0];
  for (const one of cases) {
    for (const kind of ["pointerdown", "focusin"]) {
      one.article.addEventListener(kind, () => {
        active = one;
      });
    }
  }
  document.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const own = event.target.closest("input, select");
    if (!by || own || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    active.step(by);
  });
})();
