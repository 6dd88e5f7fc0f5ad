"use strict";
// What can be asked of the prompts, from the index alone: no text is read here.

/** Columns of the index with the questions that filters and orders ask of a prompt `row` (a number). */
function questions(index) {
  const { models, baseline, judges, scores, marks } = index;
  const score = (row, model, judge) => scores[judge]?.[model][row] ?? NaN; // comparisons with NaN are false

  /** The candidate's score minus the baseline's; NaN where either is unknown. */
  function difference(row, model, judge) {
    if (judge === "pairwise") return score(row, model, judge);
    return baseline === null ? NaN : score(row, model, judge) - score(row, baseline, judge);
  }

  const some = (row, letter, chosen) => chosen.some((model) => marks[model][row].includes(letter));
  const everyModel = models.map((_, model) => model);

  /** The outcomes on offer, as [name, test(row)]; `model` is the arm chosen, or -1 for all. */
  function outcomes(model, judge) {
    const list = [["all", () => true]];
    const others = model < 0 ? everyModel.filter((each) => each !== baseline) : [model];
    const against = (test) => (row) => others.some((each) => test(difference(row, each, judge)));
    if (judge !== undefined && others.some((each) => each !== baseline)) {
      list.push(["won", against((by) => by > 0)], ["tied", against((by) => by === 0)], ["lost", against((by) => by < 0)]);
    }
    if (judges.includes("verifier")) {
      const right = (row, each) => score(row, each, "verifier");
      list.push(["solved by every model", (row) => everyModel.every((each) => right(row, each) === 1)]);
      list.push(["solved by no model", (row) => everyModel.every((each) => right(row, each) === 0)]);
    }
    const asked = model < 0 ? everyModel : [model];
    list.push(["unparsed", (row) => some(row, "p", asked)], ["unscored", (row) => some(row, "n", asked)]);
    list.push(["truncated", (row) => some(row, "t", asked)]);
    return list;
  }

  /** Rows in an order: as they are, best or worst difference first, or shuffled; unknown differences come last. */
  function ordered(rows, order, model, judge) {
    if (order === "random") return shuffled(rows);
    if (order === "file" || judge === undefined) return rows;
    const sign = order === "best" ? -1 : 1;
    const others = model < 0 ? everyModel.filter((each) => each !== baseline) : [model];
    const key = (row) => {
      const known = others.map((each) => difference(row, each, judge)).filter((by) => !Number.isNaN(by));
      return known.length ? sign * (order === "best" ? Math.max(...known) : Math.min(...known)) : Infinity;
    };
    const keys = new Map(rows.map((row) => [row, key(row)]));
    return [...rows].sort((a, b) => (keys.get(a) === keys.get(b) ? a - b : keys.get(a) - keys.get(b)));
  }

  function shuffled(rows) {
    const mixed = [...rows];
    for (let last = mixed.length - 1; last > 0; last -= 1) {
      const other = Math.floor(Math.random() * (last + 1));
      [mixed[last], mixed[other]] = [mixed[other], mixed[last]];
    }
    return mixed;
  }

  return { difference, outcomes, ordered };
}
