// Prompts and replies as elements. Text of prompts and models reaches the page through `textContent` only.

function element(name, kind, text) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

const SIGNS = { solved: "✓ solved", wrong: "✗ wrong", unparsed: "? unparsed", unscored: "– unscored" };
const PREFERRED = { win: "preferred", tie: "no preference", loss: "not preferred", unscored: "not compared" };

/** A text, and how much of it was left out. It can be scrolled by keyboard where it is long. */
function said(part) {
  const text = element("p", "said", part.text || "(empty)");
  if (part.text.length > 600) text.tabIndex = 0;
  const parts = [text];
  if (part.more) parts.push(element("p", "more", `… ${part.more.toLocaleString("en")} more characters`));
  return parts;
}

function block(title, part) {
  const made = element("div", "block");
  if (title) made.append(element("h4", "", title));
  made.append(...said(part));
  return made;
}

/** `details` whose content is made when it is first opened. */
function folded(title, make) {
  const made = element("details");
  made.append(element("summary", "", title));
  made.addEventListener("toggle", () => made.childElementCount > 1 || made.append(...make()));
  return made;
}

function references(texts) {
  return texts.references.map((part) =>
    part.title === "Answer" ? block("Answer", part) : folded(part.title, () => [block("", part)]));
}

function marks(reply) {
  const made = element("p", "marks");
  if (reply.outcome) made.append(element("b", reply.outcome, SIGNS[reply.outcome]));
  if (reply.truncated) made.append(element("b", "truncated", "… truncated"));
  if (reply.preferred) made.append(element("b", "", PREFERRED[reply.preferred]));
  for (const [judge, reward] of Object.entries(reply.rewards ?? {})) made.append(element("b", "", `${judge} ${reward}`));
  const tokens = reply.tokens === null ? "unknown" : reply.tokens.toLocaleString("en");
  made.append(`${tokens} tokens${reply.reason ? `; ${reply.reason}` : ""}`);
  return made;
}

/** One model's replies to a prompt: the first, and the other samples folded away. */
function card(samples, model, changed) {
  const made = element("section", `reply ${model.colour}`);
  made.append(element("h4", "", model.name));
  if (changed) made.lastChild.append(" ", element("b", `chip ${changed}`, changed));
  if (samples.length === 0) {
    made.append(element("p", "marks", "no reply in the run folder"));
    return made;
  }
  made.append(marks(samples[0]), ...said(samples[0]));
  const more = samples.slice(1);
  if (more.length) {
    const title = `${more.length} further ${more.length === 1 ? "sample" : "samples"}`;
    made.append(folded(title, () => more.flatMap((sample) => [marks(sample), ...said(sample)])));
  }
  return made;
}
