(() => {
  const content = JSON.parse(document.getElementById("content").textContent);
  const arms = content.arms.map((arm) => arm.name);
  const shown = new Set(arms);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = getComputedStyle(document.documentElement);
  // The style sheet's colours for print, which do not hold yet when a print is announced.
  const PAPER = { ink: "#000", muted: "#444", grid: "#ddd", ground: "#fff" };
  const charts = [];

  // Rows of a chart by epoch; the same as charts.rows makes for the figures.
  const curveRows = (key) => {
    const rows = [];
    for (const line of content.lines) {
      if (!shown.has(line.arm)) continue;
      const points = line.epochs
        .map((epoch, index) => [epoch, line.values[key][index]])
        .filter(([, value]) => value !== null);
      points.forEach(([epoch, value], index) => rows.push({
        arm: line.arm,
        line: `${line.arm} ${line.seed ?? "mean"}`,
        mean: line.seed === null,
        end: line.cut && line.seed !== null && index === points.length - 1,
        epoch, value,
      }));
    }
    return rows;
  };
  const testRows = () => content.tests.filter((row) => shown.has(row.arm));

  // Training and validation share an axis, over the arms that are shown.
  const axis = (quantity) => {
    const pairs = Object.entries(content.bounds[quantity] ?? {})
      .filter(([arm]) => shown.has(arm)).map(([, pair]) => pair);
    if (!pairs.length) return [0, 1];
    const low = Math.min(...pairs.map((pair) => pair[0]));
    const high = Math.max(...pairs.map((pair) => pair[1]));
    return high > low ? [low, high] : [low - 1, high + (high < 99.5 ? 1 : 0)];
  };

  const paint = (chart, printing = false) => {
    const tone = dark.matches && !printing ? "dark" : "light";
    const view = chart.view;
    view.signal("palette", content.arms.map((arm) => arm[tone]));
    if (chart.lines) view.signal("lines", chart.lines.map((line) => line[tone]));
    for (const [name, tones] of Object.entries(chart.tones ?? {})) view.signal(name, tones[tone]);
    if (chart.arm) view.signal("own", content.arms.find((arm) => arm.name === chart.arm)[tone]);
    for (const name of ["ink", "muted", "grid", "ground"]) {
      view.signal(name, printing ? PAPER[name] : root.getPropertyValue(`--${name}`).trim());
    }
    return view;
  };

  const fill = (chart) => {
    const rows = chart.rows();
    chart.view.data(chart.data, rows);
    if (chart.axis) {
      const [low, high] = chart.axis();
      if (low !== null) chart.view.signal("low", low);
      chart.view.signal("high", high);
    }
    chart.points = rows.filter(chart.pointed);
    return chart.view.runAsync();
  };

  const make = async (place, spec, chart) => {
    // Vega writes a role and a label of its own on the element that it is given, and roles without
    // a name on what it draws: the place says in words what the chart shows, the rest is hidden.
    const inside = document.createElement("div");
    inside.setAttribute("aria-hidden", "true");
    place.append(inside);
    const made = await vegaEmbed(inside, structuredClone(spec), {
      mode: "vega", renderer: "svg", actions: false, defaultStyle: false, tooltip: false,
    });
    Object.assign(chart, { place, view: made.view });
    paint(chart);
    charts.push(chart);
    return fill(chart);
  };

  // Hovering: the nearest point, told in a card and brought forward in every chart.
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  document.body.append(tip);
  let focus = "";
  let focusEpoch = 0;

  const bringForward = (arm, epoch) => {
    if (arm === focus && epoch === focusEpoch) return;
    [focus, focusEpoch] = [arm, epoch];
    for (const chart of charts) {
      if (!chart.focusing) continue;
      chart.view.signal("focus", arm).signal("focus_epoch", epoch).runAsync();
    }
  };

  const nearest = (chart, event) => {
    const box = chart.place.querySelector("svg").getBoundingClientRect();
    const [left, top] = chart.view.origin();
    const x = chart.view.scale("x");
    const y = chart.view.scale("y");
    const middle = y.bandwidth ? y.bandwidth() / 2 : 0;
    let found = null;
    let least = Infinity;
    for (const row of chart.points) {
      const [atX, atY] = chart.at(row);
      const dx = x(atX) - (event.clientX - box.left - left);
      const dy = y(atY) + middle - (event.clientY - box.top - top);
      const distance = chart.weigh[0] * dx * dx + chart.weigh[1] * dy * dy;
      if (distance < least) [found, least] = [row, distance];
    }
    return found;
  };

  const number = (quantity, value) =>
    quantity === "loss" ? value.toPrecision(4) : `${value.toFixed(1)} %`;

  const line = (name, value) => {
    const row = document.createElement("div");
    const label = document.createElement("span");
    label.textContent = `${name} `;
    row.append(label, value);
    return row;
  };

  const tell = (chart, row, event) => {
    const head = document.createElement("strong");
    head.textContent = chart.head ? chart.head(row) : row.arm;
    tip.replaceChildren(head, ...chart.told(row).map(([name, value]) => line(name, value)));
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const right = event.clientX + 14 + width < document.documentElement.clientWidth;
    tip.style.left = `${Math.max(4, right ? event.clientX + 14 : event.clientX - 14 - width)}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - height - 4))}px`;
  };

  const toldOfCurve = (chart) => (row) => [
    ["epoch", String(row.epoch)],
    ["mean", number(chart.quantity, row.value)],
    ...content.lines
      .filter((curve) => curve.arm === row.arm && curve.seed !== null)
      .map((curve) => [curve.seed, curve.values[chart.key][curve.epochs.indexOf(row.epoch)] ?? null])
      .filter(([, value]) => value !== null)
      .map(([seed, value]) => [`seed ${seed}`, number(chart.quantity, value)]),
  ];
  const toldOfTest = (row) => {
    const all = content.tests.filter((other) => other.arm === row.arm);
    const mean = all.reduce((sum, other) => sum + other.value, 0) / all.length;
    return [
      [`seed ${row.seed}`, number("accuracy", row.value)],
      ...(all.length > 1 ? [[`mean of ${all.length}`, number("accuracy", mean)]] : []),
    ];
  };

  const quiet = () => {
    tip.hidden = true;
    bringForward("", 0);
  };

  const follow = (chart) => {
    const seek = (event) => {
      const row = (chart.seek ?? nearest)(chart, event);
      if (!row) return quiet();
      tell(chart, row, event);
      if (chart.focusing) bringForward(row.arm, row.epoch ?? 0);
    };
    chart.place.addEventListener("pointermove", seek);
    chart.place.addEventListener("pointerdown", seek);
    chart.place.addEventListener("pointerleave", quiet);
  };

  const boxes = [...document.querySelectorAll("input[data-arm]")];
  const choose = () => {
    shown.clear();
    for (const box of boxes) if (box.checked) shown.add(box.dataset.arm);
    for (const panel of document.querySelectorAll("[data-panel]")) {
      panel.hidden = !shown.has(panel.dataset.panel);
    }
    return Promise.all(charts.map(fill));
  };
  for (const box of boxes) {
    box.addEventListener("change", choose);
    const label = box.closest("label");
    label.addEventListener("pointerenter", () => box.checked && bringForward(box.dataset.arm, 0));
    label.addEventListener("pointerleave", quiet);
  }
  for (const button of document.querySelectorAll("button[data-all]")) {
    button.addEventListener("click", () => {
      for (const box of boxes) box.checked = button.dataset.all === "on";
      choose();
    });
  }

  for (const button of document.querySelectorAll("button[data-only]")) {
    const members = new Set(JSON.parse(button.dataset.only));
    button.addEventListener("click", () => {
      for (const box of boxes) box.checked = members.has(box.dataset.arm);
      choose();
    });
  }

  const repaint = (printing) => {
    for (const chart of charts) paint(chart, printing).run();
  };
  dark.addEventListener("change", () => repaint(false));
  addEventListener("beforeprint", () => repaint(true));
  addEventListener("afterprint", () => repaint(false));

  const making = [make(document.getElementById("tests"), content.test, {
    data: "tests", rows: testRows, axis: () => axis("test"), focusing: true, pointed: () => true,
    at: (row) => [row.value, row.arm], weigh: [1, 4], told: toldOfTest,
  })];
  for (const place of document.querySelectorAll("[data-quantity]")) {
    const quantity = place.dataset.quantity;
    const key = `${quantity}-${place.dataset.split}`;
    const chart = {
      data: "curves", quantity, key, rows: () => curveRows(key), axis: () => axis(quantity),
      focusing: true, pointed: (row) => row.mean, at: (row) => [row.epoch, row.value], weigh: [4, 1],
    };
    making.push(make(place, content.curve, Object.assign(chart, { told: toldOfCurve(chart) })));
  }
  for (const place of document.querySelectorAll("[data-setting]")) {
    const found = content.settings.find((one) => one.name === place.dataset.setting);
    making.push(make(place, found.spec, {
      data: "values", lines: found.lines, rows: () => found.rows.filter((row) => shown.has(row.arm)),
      axis: () => [found.low, found.high], pointed: (row) => !row.mean,
      at: (row) => [row.x, row.value], weigh: [1, 1],
      told: (row) => [[`seed ${row.seed}`, number("accuracy", row.value)]],
    }));
  }
  for (const place of document.querySelectorAll("[data-features]")) {
    const arm = place.dataset.features;
    making.push(make(place, content.features.spec, {
      data: "features", arm, rows: () => content.features.rows[arm],
      axis: () => [null, content.features.high], pointed: () => true,
      at: (row) => [row.epoch, row.p80], weigh: [1, 0],
      told: (row) => [["epoch", String(row.epoch)],
        ...["p99", "p80", "p20", "p1"].map((name) => [`${name.slice(1)} %`, row[name].toPrecision(3)])],
    }));
  }
  for (const section of sections) making.push(...section({ content, shown, make, fill }));
  Promise.all(making).then(() => {
    charts.forEach(follow);
    document.documentElement.dataset.ready = "true";
  });
})();
