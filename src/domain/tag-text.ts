const LONGEST = 80;

/** A tag in a sentence for people. Tags are other people's words: nothing in them may move a terminal's cursor or fill a log. */
export function describeTag(tag: string): string {
  const printable = tag.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "?");
  const letters = [...printable];
  return letters.length > LONGEST ? `${letters.slice(0, LONGEST).join("")}…` : printable;
}
