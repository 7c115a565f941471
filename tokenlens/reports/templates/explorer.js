/* The explorer in a document or a shadow root, which holds its section; `tell` hears its state. */
const makeExplorer = (root, tell) => {
  const find = (id) => root.querySelector(`#ex-${id}`);
  const data = JSON.parse(root.querySelector("#explorer-data").textContent);
  const state = { sample: null, layer: 1, other: 0, head: 0, word: 0, token: -1, pinned: -1, tab: "map" };

  data.samples.forEach((sample, at) => {
    const plain = sample.outcomes.find(({ arm }) => arm === 0);
    const { recall } = sample;
    Object.assign(sample, {
      at,
      plain,
      overlap: recall ? recall[0].reduce((one, more) => one + more, 0) / recall[0].length : null,
      places: sample.places.map((one) => Object.assign(new Places(one), { region: one.region })),
    });
  });

  const model = () => data.models[state.sample.model];
  /* What the values of the maps are, where they are no shares of attention. */
  const unit = () => state.sample.maps.units[state.word];
  const amount = (value) => (unit() ? String(Number(value.toPrecision(3))) : percent(value));
  const outcomeOf = (sample, arm) => sample.outcomes.find((one) => one.arm === arm);
  const choice = (id) => {
    const [arm, stage] = find(id).value.split(" ").map(Number);
    return { arm, stage, outcome: find(id).value ? outcomeOf(state.sample, arm) : undefined };
  };

  /* How much less than the unpruned model: of one arm, or of the arm that loses most. */
  const lost = (sample) => {
    const losses = sample.outcomes
      .filter(({ arm }) => arm > 0 && sample.plain)
      .map((one) =>
        one.score === null || sample.plain.score === null
          ? Number(one.prediction !== sample.plain.prediction)
          : sample.plain.score - one.score,
      );
    return losses.length ? Math.max(...losses) : null;
  };

  const ORDERS = {
    given: (one, other) => one.at - other.at,
    lost: (one, other) => (lost(other) ?? -9) - (lost(one) ?? -9),
    overlap: (one, other) => (one.overlap ?? 9) - (other.overlap ?? 9),
    task: (one, other) => (one.task < other.task ? -1 : Number(one.task > other.task)),
  };

  const title = (sample) => {
    const loss = lost(sample);
    const parts = [
      data.models.length > 1 && find("model").value === "all" ? data.models[sample.model].name : "",
      loss > 0 ? `lost ${percent(loss)}` : "",
      sample.overlap === null ? "" : `overlap ${percent(sample.overlap)}`,
      sample.task,
      sample.question,
    ];
    return parts.filter(Boolean).join(" · ");
  };

  const list = () => {
    const { value } = find("model");
    const shown = data.samples.filter((one) => value === "all" || one.model === Number(value));
    shown.sort((one, other) => ORDERS[find("sort").value](one, other) || one.at - other.at);
    fill(find("sample"), shown.map((one) => [String(one.at), title(one)]), "");
    return shown;
  };

  const select = (sample) => {
    const before = state.sample;
    state.sample = sample;
    state.pinned = state.token = -1;
    if (!before || before.model !== sample.model) {
      state.layer = model().chosen[0] || 1;
      state.other = 0;
    }
    const { maps, outcomes } = sample;
    if (maps && !(maps instanceof Maps)) sample.maps = new Maps(maps);
    find("sample").value = String(sample.at);
    find("task").textContent = sample.task;
    find("task").hidden = !sample.task;
    find("question").textContent = sample.question;
    find("truth").textContent = sample.answers.length ? `Right answer: ${sample.answers.join(" / ")}` : "";
    find("missing").hidden = !sample.missing;
    find("missing").textContent = sample.missing || "";
    root.querySelectorAll("#explore .photo").forEach((photo) => {
      photo.src = sample.photo;
      photo.closest(".frame").style.width = `min(100%, ${(64 * sample.width) / sample.height}vh)`;
    });
    find("photo").alt = `The picture of: ${sample.question}`;
    setUpMaps();
    setUpMethods();
    const stages = outcomes.some((one) => one.fates.length);
    find("tabs").hidden = !model().arms.length && Boolean(sample.maps);
    find("tab-map").disabled = !sample.maps;
    find("tab-kept").disabled = !stages;
    find("without").textContent = sample.maps ? "" : "The profile does not hold this sample, so that it has no maps.";
    if (!stages && sample.maps) find("without").textContent = "No method of the results pruned this sample.";
    if (state.tab === "map" && !sample.maps && stages) state.tab = "kept";
    if (state.tab === "kept" && !stages) state.tab = "map";
    drawRegions();
    show();
  };

  const setUpMaps = () => {
    const { maps } = state.sample;
    if (!maps) return;
    state.layer = Math.min(state.layer, maps.layers);
    find("layer").max = maps.layers;
    find("layers").textContent = `of ${maps.layers} · arrow keys`;
    const heads = Array.from({ length: maps.heads }, (_, at) => [`${at + 1}`, `head ${at + 1}`]);
    fill(find("head"), [["0", "mean of all"], ...heads], String(state.head));
    fill(find("word"), maps.words.map((word, at) => [String(at), word]), String(state.word));
    [state.head, state.word] = [Number(find("head").value), Number(find("word").value)];
    find("head-group").hidden = !maps.heads;
    find("word-group").hidden = maps.words.length < 2;
    find("curve-end").textContent = `layer ${maps.layers}`;
  };

  const setUpMethods = () => {
    const options = state.sample.outcomes.flatMap(({ arm, fates }) =>
      fates.map((_, stage) => [
        `${arm} ${stage}`,
        `${model().arms[arm].name} · ${model().arms[arm].stages[stage]}`,
      ]),
    );
    const last = options.findLast(([value]) => value.split(" ")[0] === (options[0] || ["1"])[0].split(" ")[0]);
    const before = find("one").value;
    fill(find("one"), options, before || (last || [""])[0]);
    fill(find("other"), [["", "nothing"], ...options], find("other").value);
  };

  const drawRegions = () => {
    const { width, height, regions } = state.sample;
    const marks = find("marks");
    marks.setAttribute("viewBox", `0 0 ${width} ${height}`);
    marks.replaceChildren(
      ...regions.flatMap((points) => [
        shape("polygon", { points, class: "halo" }),
        shape("polygon", { points, class: "region" }),
      ]),
      shape("rect", { class: "pointed", width: 0, height: 0 }),
    );
  };

  const show = () => {
    const map = state.tab === "map";
    find("tab-map").setAttribute("aria-pressed", map);
    find("tab-kept").setAttribute("aria-pressed", !map);
    find("map-controls").hidden = !map || !state.sample.maps;
    find("kept-controls").hidden = map;
    find("photo").classList.toggle("dimmed", map && Boolean(state.sample.maps));
    find("first").hidden = map && !state.sample.maps;
    const place = [...find("sample").options].findIndex((one) => one.selected) + 1;
    find("place").textContent = `${place} of ${find("sample").options.length}`;
    showAnswers();
    if (map) showMaps();
    else showKept();
    point(state.token);
  };

  const showAnswers = () => {
    const { outcomes, plain } = state.sample;
    const named = [choice("one").outcome, choice("other").outcome];
    const few = outcomes.length <= 4 ? outcomes : [];
    const shown = [...new Set([plain, ...named, ...few])].filter(Boolean);
    find("answers").replaceChildren(
      ...shown.map((one) => answerCard(model().arms[one.arm], one, plain)),
    );
  };

  const topOf = (layer) => {
    const { maps } = state.sample;
    return find("scale").value === "map"
      ? maps.top(state.word, layer, state.head)
      : maps.sharedTop(state.word, state.head);
  };

  const paint = (canvas, layer) => {
    const { maps, places } = state.sample;
    const values = maps.values(state.word, layer, state.head);
    places[0].paintMap(canvas, values, topOf(layer));
    return values;
  };

  const showMaps = () => {
    const { maps, recall } = state.sample;
    find("second").hidden = find("edge").hidden = true;
    find("first").style.clipPath = "";
    find("first").querySelector("svg").replaceChildren();
    find("pair").hidden = !maps || !state.other;
    if (!maps) return;
    const own = (state.sample.correlations || [])[state.word];
    correlation.show(own || model().correlations[maps.words[state.word]]);
    find("correlation-label").textContent = `Rank correlation of layers${own ? " in this sample" : ""}: choose two to compare`;
    state.values = paint(find("first").querySelector("canvas"), state.layer);
    find("layer").value = state.layer;
    find("layer-number").textContent = state.layer;
    const top = topOf(state.layer);
    find("half").textContent = amount(top / 2);
    find("top").textContent = amount(top);
    const head = state.head ? `head ${state.head}` : "mean of heads";
    find("what").textContent = `layer ${state.layer} · ${head}`;
    const sum = state.values.reduce((one, other) => one + other, 0);
    const seen = recall
      ? ` Of the region, ${percent(recall[state.word][state.layer - 1])} are among the top 20 %.`
      : "";
    find("total").textContent = `On the whole ${state.sample.pictures > 1 ? `of ${state.sample.pictures} pictures` : "picture"}: ${amount(sum)}${unit() ? `, ${unit()}` : ""}.${seen}`;
    if (state.other) {
      paint(find("pair").querySelector("canvas"), state.other);
      const reach = find("scale").value === "map" ? `, up to ${amount(topOf(state.other))}` : "";
      find("pair").querySelector("span").textContent = `layer ${state.other}${reach}`;
    }
  };

  const fatesOf = ({ outcome, stage }) => Array.from(outcome.fates[stage], Number);

  const showKept = () => {
    find("pair").hidden = true;
    const [one, other] = [choice("one"), choice("other")];
    const both = [["first", one], ["second", other]].filter(([, { outcome }]) => outcome);
    const { places, width, height } = state.sample;
    const wiped = both.length > 1;
    const counts = both.map(([id, chosen]) => {
      const [fates, own] = [fatesOf(chosen), places[chosen.outcome.place]];
      drawFates(find(id), own, fates, [width, height]);
      const kept = fates.filter((fate) => fate < 2).length;
      const region = own.region.filter((token) => fates[token] < 2).length;
      const seen = own.region.length ? `, ${region} of the region’s ${own.region.length}` : "";
      return `${wiped ? `${label(id === "first" ? "one" : "other")}: ` : ""}${kept} of ${fates.length} kept${seen}`;
    });
    if (wiped && one.outcome.place === other.outcome.place) {
      const [left, right] = [fatesOf(one), fatesOf(other)];
      const shared = left.filter((fate, token) => fate < 2 && right[token] < 2).length;
      counts.push(`${shared} kept by both`);
    }
    find("counts").textContent = `${counts.join("; ")}.`;
    find("what").textContent = both.map(([id]) => label(id === "first" ? "one" : "other")).join(" | ");
    find("wipe-group").hidden = find("second").hidden = find("edge").hidden = !wiped;
    const at = find("wipe").value;
    find("first").style.clipPath = wiped ? `inset(0 ${100 - at}% 0 0)` : "";
    find("second").style.clipPath = `inset(0 0 0 ${at}%)`;
    find("edge").style.left = `${at}%`;
  };

  const label = (id) => find(id).selectedOptions[0].textContent;

  /* The tokens that are pointed at: those of the maps, or those that the method had. */
  const raster = () => {
    const { outcome } = choice("one");
    return state.sample.places[state.tab === "kept" && outcome ? outcome.place : 0];
  };

  /* What is known of a token; none: the one that matters most. */
  const point = (token) => {
    state.token = token;
    const { width, height, maps } = state.sample;
    const [box] = find("marks").getElementsByClassName("pointed");
    const tokens = raster();
    const [x0, y0, x1, y1] = tokens.corners[token] || [0, 0, 0, 0];
    const [across, down] = [width / tokens.width, height / tokens.height];
    Object.entries({ x: x0 * across, y: y0 * down, width: (x1 - x0) * across, height: (y1 - y0) * down })
      .forEach(([name, value]) => box.setAttribute(name, value));
    if (state.tab === "map" && maps) pointMap(token);
    else find("value").textContent = token < 0 ? "" : fateWords(token);
    tell(state);
  };

  const pointMap = (token) => {
    const { maps } = state.sample;
    const shown = token < 0 ? state.values.indexOf(Math.max(...state.values)) : token;
    const value = amount(state.values[shown]);
    find("value").textContent = `${token < 0 ? "most important: " : ""}token ${shown + 1}: ${value}`;
    const curve = maps.curve(state.word, state.head, shown);
    const top = Math.max(...curve);
    const at = curve.indexOf(top) + 1;
    drawCurve(find("curve"), curve, state.layer, model().chosen);
    find("curve-title").textContent = `Token ${shown + 1} at every layer`;
    find("curve-top").textContent = `up to ${amount(top)}, layer ${at}`;
    find("curve").setAttribute("aria-label", curve.map((one, layer) => `layer ${layer + 1}: ${amount(one)}`).join(", "));
  };

  const fateWords = (token) =>
    ["one", "other"]
      .map((id) => choice(id))
      .filter(({ outcome, stage }) => outcome && token < outcome.fates[stage].length)
      .map(({ arm, outcome, stage }) => `${model().arms[arm].name}: ${FATES[outcome.fates[stage][token]]}`)
      .reduce((text, one) => `${text} · ${one}`, `token ${token + 1}`);

  const step = (by) => {
    if (state.tab === "kept") {
      const { options, selectedIndex } = find("one");
      find("one").selectedIndex = Math.min(options.length - 1, Math.max(0, selectedIndex + by));
    } else if (!state.sample.maps) return;
    else state.layer = Math.min(state.sample.maps.layers, Math.max(1, state.layer + by));
    show();
  };

  /* From the token in hand to its neighbour. */
  const walk = (key) => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    if (!by) return false;
    const places = raster();
    const [x0, y0, x1, y1] = places.corners[Math.max(0, state.token)];
    const x = by[0] < 0 ? x0 - 1 : by[0] > 0 ? x1 : (x0 + x1 - 1) >> 1;
    const y = by[1] < 0 ? y0 - 1 : by[1] > 0 ? y1 : (y0 + y1 - 1) >> 1;
    const next = state.token < 0 ? 0 : places.tokenOn(x, y);
    if (next >= 0) {
      state.pinned = next;
      point(next);
    }
    return true;
  };

  const correlation = new Correlation(
    find("correlation"),
    (text) => {
      find("correlation-value").textContent = text;
    },
    (layer, other) => {
      Object.assign(state, { layer, other: layer === other ? 0 : other });
      show();
    },
  );

  return { find, data, state, list, select, show, point, walk, step, raster };
};
