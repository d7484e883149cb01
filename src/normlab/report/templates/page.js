// The tools that the sections draw with: charts, axes, hovering, the choice of arms, themes.
// A section registers sections.NAME = (payload, tools) => [promises of its charts].
(() => {
  const content = JSON.parse(document.getElementById("content").textContent);
  const arms = content.arms.map((arm) => arm.name);
  const shown = new Set(arms);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = getComputedStyle(document.documentElement);
  // The style sheet's colours for print, which do not hold yet when a print is announced.
  const PAPER = { ink: "#000", muted: "#444", grid: "#ddd", ground: "#fff" };
  const charts = [];

  // The axis over the arms that are shown, from the lowest and highest value of each.
  const axis = (bounds) => {
    const pairs = Object.entries(bounds)
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

  const tools = { arms, shown, make, fill, axis, number };
  const making = Object.entries(sections)
    .filter(([name]) => name in content.sections)
    .flatMap(([name, draw]) => draw(content.sections[name], tools));
  Promise.all(making).then(() => {
    charts.forEach(follow);
    document.documentElement.dataset.ready = "true";
  });
})();
