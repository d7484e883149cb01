// Percentiles of the penultimate features, one panel per arm.
sections.percentiles = ({ rows, high, spec }, { make }) =>
  [...document.querySelectorAll("[data-features]")].map((place) => {
    const arm = place.dataset.features;
    return make(place, spec, {
      data: "features", arm, rows: () => rows[arm], axis: () => [null, high],
      pointed: () => true, at: (row) => [row.epoch, row.p80], weigh: [1, 0],
      told: (row) => [["epoch", String(row.epoch)],
        ...["p99", "p80", "p20", "p1"].map((name) => [`${name.slice(1)} %`, row[name].toPrecision(3)])],
    });
  });
