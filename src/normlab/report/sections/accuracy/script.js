// Test accuracy of every run.
sections.accuracy = ({ rows, bounds, spec }, { make, shown, axis, number }) => {
  const told = (row) => {
    const all = rows.filter((other) => other.arm === row.arm);
    const mean = all.reduce((sum, other) => sum + other.value, 0) / all.length;
    return [
      [`seed ${row.seed}`, number("accuracy", row.value)],
      ...(all.length > 1 ? [[`mean of ${all.length}`, number("accuracy", mean)]] : []),
    ];
  };
  return [make(document.getElementById("tests"), spec, {
    data: "tests", rows: () => rows.filter((row) => shown.has(row.arm)), axis: () => axis(bounds),
    focusing: true, pointed: () => true, at: (row) => [row.value, row.arm], weigh: [1, 4], told,
  })];
};
