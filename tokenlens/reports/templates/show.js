
(() => {
  class Case {
    constructor(article) {
      this.article = article;
      this.data = JSON.parse(this.find(".data").textContent);
      this.maps = new Maps(this.data);
      this.places = new Places(this.data);
      this.word = 0;
      this.head = 0;
      this.buttons = [...article.querySelectorAll(".words button")];
      this.layer = Math.ceil(this.data.layers / 2);
      this.pointed = -1;
      this.connect();
      paintBar(this.find(".colours"));
      this.show();
    }

    find(selector) {
      return this.article.querySelector(selector);
    }

    /* What the brightest colour stands for. */
    top(head) {
      return this.find(".scale").value === "map"
        ? this.maps.top(this.word, this.layer, head)
        : this.maps.sharedTop(this.word, head);
    }

    paint(canvas, head) {
      const values = this.maps.values(this.word, this.layer, head);
      this.places.paintMap(canvas, values, this.top(head));
      return values;
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
        const top = percent(this.maps.top(this.word, this.layer, at + 1));
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
      frame.addEventListener("pointermove", (event) =>
        this.point(this.places.tokenAt(frame, event)),
      );
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
  onArrows(document, (by) => active.step(by));
})();
