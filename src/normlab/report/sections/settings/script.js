// Test accuracy against a varied setting.
sections.settings = (charts, { make, shown, number }) =>
  [...document.querySelectorAll("[data-setting]")].map((place) => {
    const found = charts.find((one) => one.name === place.dataset.setting);
    return make(place, found.spec, {
      data: "values", lines: found.lines, rows: () => found.rows.filter((row) => shown.has(row.arm)),
      axis: () => [found.low, found.high], pointed: (row) => !row.mean,
      at: (row) => [row.x, row.value], weigh: [1, 1],
      told: (row) => [[`seed ${row.seed}`, number("accuracy", row.value)]],
    });
  });
