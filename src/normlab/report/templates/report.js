"use strict";
(() => {
  const content = JSON.parse(document.getElementById("content").textContent);
  const arms = content.arms.map((arm) => arm.name);
  const shown = new Set(arms);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = getComputedStyle(document.documentElement);
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

  const paint = (view, printing = false) => {
    const tone = dark.matches && !printing ? "dark" : "light";
    view.signal("palette", content.arms.map((arm) => arm[tone]));
    for (const name of ["ink", "muted", "grid", "ground"]) {
      view.signal(name, root.getPropertyValue(`--${name}`).trim());
    }
    return view;
  };

  const fill = (chart) => {
    const rows = chart.rows();
    chart.view.data(chart.data, rows);
    const [low, high] = axis(chart.quantity ?? "test");
    chart.view.signal("low", low).signal("high", high);
    chart.points = chart.quantity ? rows.filter((row) => row.mean) : rows;
    return chart.view.runAsync();
  };

  const make = async (place, spec, chart) => {
    // Vega writes a role and a label of its own on the element that it is given.
    const inside = document.createElement("div");
    place.append(inside);
    const made = await vegaEmbed(inside, structuredClone(spec), {
      mode: "vega", renderer: "svg", actions: false, defaultStyle: false, tooltip: false,
    });
    Object.assign(chart, { place, view: paint(made.view) });
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
      const dx = x(chart.quantity ? row.epoch : row.value) - (event.clientX - box.left - left);
      const dy = y(chart.quantity ? row.value : row.arm) + middle - (event.clientY - box.top - top);
      const distance = chart.quantity ? 4 * dx * dx + dy * dy : dx * dx + 4 * dy * dy;
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
    head.textContent = row.arm;
    tip.replaceChildren(head);
    if (chart.quantity) {
      tip.append(line("epoch", String(row.epoch)));
      tip.append(line("mean", number(chart.quantity, row.value)));
      for (const curve of content.lines) {
        const index = curve.epochs.indexOf(row.epoch);
        if (curve.arm !== row.arm || curve.seed === null || index < 0) continue;
        const value = curve.values[chart.key][index];
        if (value !== null) {
          tip.append(line(`seed ${curve.seed}`, number(chart.quantity, value)));
        }
      }
    } else {
      tip.append(line(`seed ${row.seed}`, number("accuracy", row.value)));
      const all = content.tests.filter((other) => other.arm === row.arm);
      const mean = all.reduce((sum, other) => sum + other.value, 0) / all.length;
      if (all.length > 1) tip.append(line(`mean of ${all.length}`, number("accuracy", mean)));
    }
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
      const row = nearest(chart, event);
      if (!row) return quiet();
      tell(chart, row, event);
      bringForward(row.arm, row.epoch ?? 0);
    };
    chart.place.addEventListener("pointermove", seek);
    chart.place.addEventListener("pointerdown", seek);
    chart.place.addEventListener("pointerleave", quiet);
  };

  const boxes = [...document.querySelectorAll("input[data-arm]")];
  const choose = () => {
    shown.clear();
    for (const box of boxes) if (box.checked) shown.add(box.dataset.arm);
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

  const repaint = (printing) => {
    for (const chart of charts) paint(chart.view, printing).run();
  };
  dark.addEventListener("change", () => repaint(false));
  addEventListener("beforeprint", () => repaint(true));
  addEventListener("afterprint", () => repaint(false));

  const making = [make(document.getElementById("tests"), content.test, {
    data: "tests", rows: testRows,
  })];
  for (const place of document.querySelectorAll("[data-quantity]")) {
    const quantity = place.dataset.quantity;
    const key = `${quantity}-${place.dataset.split}`;
    making.push(make(place, content.curve, {
      data: "curves", quantity, key, rows: () => curveRows(key),
    }));
  }
  Promise.all(making).then(() => {
    charts.forEach(follow);
    document.documentElement.dataset.ready = "true";
  });
})();
