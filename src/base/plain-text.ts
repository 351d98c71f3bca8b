/**
 * Text of guests, of GitLab and of other machines for people: what a terminal would obey, or what cannot be seen and changes how the rest
 * reads, is taken out. One place for all that is shown, logged on a terminal or written into a job's log.
 */

/** Sequences that begin with ESC: those of colours and cursors, of titles and clipboards (with what they carry), and the short ones. */
const sequences =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
  /\u001b(?:\[[0-9:;<=>?]*[ -/]*[@-~]|[\]PX^_][^\u0007\u001b\u009c\n]*(?:\u0007|\u001b\\|\u009c)?|[ -/]*[0-~])/g;
/** Controls of both blocks, but for tab and line feed; what is formatting and has no form of its own (bidi, joiners, tags); half letters. */
const unseen = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{DI}]/gu;

/** Without terminal sequences, controls and letters that cannot be seen; every kind of line end becomes `\n`. */
export function plainText(text: string): string {
  return text
    .replace(sequences, "")
    .replace(/\r+\n?|\u0085|\u2028|\u2029/g, "\n")
    .replace(unseen, (letter) => (letter === "\n" || letter === "\t" ? letter : ""));
}

/** The same in one line: nobody's name can look like a line of ours. */
export function oneLine(text: string): string {
  return plainText(text).replace(/\s+/g, " ").trim();
}

/** JSON for a program, that a terminal may show as well: the same value, with every such letter written as an escape. */
export function plainJson(value: unknown, indent?: number): string {
  return escapeUnseen(JSON.stringify(value, null, indent));
}

/** A text of JSON, with the same meaning. */
export function escapeUnseen(json: string): string {
  return json.replace(unseen, (letters) =>
    letters === "\n" || letters === "\t"
      ? letters
      : [...Array(letters.length).keys()].map((at) => escaped(letters, at)).join(""),
  );
}

function escaped(letters: string, at: number): string {
  return `\\u${letters.charCodeAt(at).toString(16).padStart(4, "0")}`;
}
