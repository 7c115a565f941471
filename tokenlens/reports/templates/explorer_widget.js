/* The explorer as an anywidget: in a shadow root, so that a notebook's styles and ids stay apart. */
const render = ({ model, el }) => {
  const host = document.createElement("div");
  host.dataset.lmSuppressShortcuts = "true"; // JupyterLab leaves the keys to it
  el.append(host);
  const root = host.attachShadow({ mode: "open" });
  const [style, body] = ["style", "div"].map((name) => document.createElement(name));
  style.textContent = model.get("_style");
  body.className = "embedded";
  body.innerHTML = model.get("_html");
  root.append(style, body);

  const tell = ({ sample, layer, pinned }) => {
    const now = { sample: sample.at, layer: sample.maps ? layer : null, token: pinned < 0 ? null : pinned };
    const changed = Object.entries(now).filter(([name, value]) => model.get(name) !== value);
    if (!changed.length || !following) return;
    model.set(Object.fromEntries(changed));
    model.save_changes();
  };

  /* What Python sets is shown; what it did not set yet comes from the explorer. */
  const follow = () => {
    const [layer, token] = [model.get("layer"), model.get("token")];
    following = false;
    const wanted = data.samples[model.get("sample")];
    if (wanted && wanted !== state.sample) select(wanted);
    if (layer && state.sample.maps) state.layer = Math.min(layer, state.sample.maps.layers);
    state.pinned = token === null || token >= raster().corners.length ? -1 : token;
    show();
    point(state.pinned);
    following = true;
    tell(state);
  };

  let following = false;
  const { data, state, select, show, point, raster } = startExplorer(root, tell);
  follow();
  const names = "change:sample change:layer change:token";
  model.on(names, follow);
  return () => model.off(names, follow);
};

export default { render };
