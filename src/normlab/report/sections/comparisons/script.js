// Differences to the reference, with their intervals.
sections.comparisons = ({ rows, least, spec }, { make, shown }) => {
  const here = () => rows.filter((row) => shown.has(row.arm));
  const signed = (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(value).toFixed(2)}`;
  const span = (row, name) => `[${signed(row[`${name}low`])}, ${signed(row[`${name}high`])}]`;
  return [make(document.getElementById("differences"), spec, {
    data: "differences", rows: here, focusing: true,
    axis: () => {
      const ends = here().flatMap((row) =>
        ["value", "low", "high", "both_low", "both_high"].map((name) => row[name]))
        .filter((value) => value !== undefined);
      return [Math.min(...ends, -least), Math.max(...ends, least)];
    },
    pointed: (row) => row.kind === "arm", at: (row) => [row.value, row.arm], weigh: [0.05, 4],
    told: (row) => [
      [`compared with ${row.reference}`, signed(row.value)],
      ...(row.low === undefined ? []
        : [["simultaneous", span(row, "")], ["alone", span(row, "alone_")]]),
      ...(row.both_low === undefined ? [] : [["seeds and images", span(row, "both_")]]),
      ["verdict", row.verdict],
      ...rows.filter((one) => one.kind === "seed" && one.arm === row.arm)
        .map((one) => [`seed ${one.seed}`, signed(one.value)]),
    ],
  })];
};
