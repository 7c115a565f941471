/* The explorer with its controls connected, and its first sample shown. */
const startExplorer = (root, tell = () => {}) => {
  const explorer = makeExplorer(root, tell);
  const { find, data, state, list, select, show, point, walk, step, raster } = explorer;
  const on = (id, kind, act) => find(id).addEventListener(kind, act);
  const sampleAt = (value) => data.samples[Number(value)];

  const relist = () => {
    const shown = list();
    const stays = shown.includes(state.sample) && state.sample;
    select(stays || shown[0]);
  };

  on("sort", "change", () => {
    state.sample = list()[0];
    relist();
  });
  on("model", "change", relist);
  on("sample", "change", (event) => select(sampleAt(event.target.value)));
  on("tab-map", "click", () => {
    state.tab = "map";
    show();
  });
  on("tab-kept", "click", () => {
    state.tab = "kept";
    show();
  });
  on("unpair", "click", () => {
    state.other = 0;
    show();
  });
  for (const name of ["layer", "head", "word"]) {
    on(name, "input", (event) => {
      state[name] = Number(event.target.value);
      show();
    });
  }
  on("scale", "change", show);
  on("one", "change", show);
  on("other", "change", show);
  on("wipe", "input", show);

  const frame = find("frame");
  on("frame", "pointermove", (event) => point(raster().tokenAt(frame, event)));
  on("frame", "pointerleave", () => point(state.pinned));
  on("frame", "click", (event) => {
    const token = raster().tokenAt(frame, event);
    state.pinned = token === state.pinned ? -1 : token;
    point(token);
  });
  on("frame", "keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    if (walk(event.key)) event.preventDefault();
  });
  onArrows(root, step);

  const models = data.models.map(({ name }, at) => [String(at), name]);
  fill(find("model"), [["all", "all"], ...models], "all");
  find("model-group").hidden = models.length < 2;
  paintBar(find("colours"));
  root.querySelector(".pick").hidden = data.samples.length < 2;
  root.querySelectorAll("[data-explorer]").forEach((link) => {
    link.hidden = false;
  });
  root.querySelector("#explore").hidden = false;
  relist();
  return explorer;
};
