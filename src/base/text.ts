/**
 * Text for people: without letters that a terminal would act on, in lines of a screen's width. Colours do not count, wide letters count
 * twice; no word is ever broken in two.
 */
import { stripVTControlCharacters } from "node:util";

/** Where nobody says how wide the screen is: files, pipes, terminals that do not tell. */
export const USUAL_WIDTH = 80;

/** Below this lines would be single words. */
const LEAST_ROOM = 20;
/** Stands for a space at which no line may end. Plain text has no such letter. */
const GLUE = "\u0000";

const marks = /^(?:[!→✓✗▷•–-]|\d+\.) +/u;
/** What stands in quotes is a name or a command, to be found and copied whole. */
const quoted = /“[^“”]*”/g;
/** A command at the end of a sentence, or one that is all of it. */
const commandAtEnd =
  /(?<=^\s*(?:→ )?|: )(?:sudo |firerunner |apt-get |apt |ctr |ch(?:mod|own|grp) |usermod |umount |docker |unshare )[^“”,;]*$/;

/** How many columns it takes on a terminal. */
export function visibleWidth(text: string): number {
  if (/^[ -~]*$/.test(text)) return text.length;
  const plain = stripVTControlCharacters(text);
  return [...plain].reduce((sum, letter) => sum + letterWidth(letter), 0);
}

/** At most `width` columns of it: a longer text ends in “…”, and loses its colours. */
export function cutToWidth(text: string, width: number): string {
  if (visibleWidth(text) <= width) return text;
  let [kept, used] = ["", 0];
  for (const letter of stripVTControlCharacters(text)) {
    used += letterWidth(letter);
    if (used > width - 1) break;
    kept += letter;
  }
  return width > 0 ? `${kept}…` : "";
}

/**
 * The text, which is one line, in lines of at most `width` columns. All but the first begin `hang` columns to the right; without it,
 * below the first word behind indentation and mark (`!`, `→`), and of other lines two to the right; `least` where a word has no room behind
 * so much. Words that no line can take (addresses, paths), what is quoted, and a command at the end stay whole, wider than the screen if
 * need be.
 */
export function wrapped(
  text: string,
  width: number,
  hang = usualHang(text),
  least = Math.min(hang, usualHang(text)),
): string[] {
  const indent = /^ */.exec(text)?.[0] ?? "";
  const words = glued(text.slice(indent.length)).match(/ *[^ ]+/g) ?? [];
  const widest = words.reduce((most, word) => Math.max(most, visibleWidth(word.trimStart())), 0);
  const behind = widest <= width - hang && width - hang >= LEAST_ROOM ? hang : least;
  const lines = filled(words, { indent, behind, width });
  return lines.map((line) => line.replaceAll(GLUE, " ").trimEnd());
}

/** Each word on the line before it, as long as it has room there. */
function filled(
  words: readonly string[],
  { indent, behind, width }: { indent: string; behind: number; width: number },
): string[] {
  const lines: string[] = [];
  let line = indent;
  for (const word of words) {
    const bare = word.trimStart();
    // The head of a sentence, such as a mark, is not left alone where its word has no room on the next line either.
    const isHead = lines.length === 0 && visibleWidth(line) <= behind;
    const isBetterBelow = !(isHead && behind + visibleWidth(bare) > width);
    if (line !== indent && isBetterBelow && visibleWidth(line + word) > width) {
      lines.push(line);
      line = " ".repeat(behind) + bare;
    } else line += word;
  }
  return [...lines, line];
}

function usualHang(text: string): number {
  const plain = stripVTControlCharacters(text);
  const indent = /^ */.exec(plain)?.[0].length ?? 0;
  return indent + (marks.exec(plain.slice(indent))?.[0].length ?? 2);
}

/** With the spaces glued at which no line may end. */
function glued(text: string): string {
  const glue = (words: string) => words.replaceAll(" ", GLUE);
  return text
    .replace(quoted, (words) => (isSentence(words) ? words : glue(words)))
    .replace(commandAtEnd, glue);
}

/** A quotation that is longer than a line, and begins as no command of ours does, is prose. */
function isSentence(words: string): boolean {
  return words.length > USUAL_WIDTH / 2 && !/^“(?:sudo )?firerunner /.test(words);
}

const wide =
  /[\p{Emoji_Presentation}\p{Script=Han}\p{Script=Hangul}\p{Script=Hiragana}\p{Script=Katakana}\u3000-\u303f\uff01-\uff60\uffe0-\uffe6]/u;

function letterWidth(letter: string): number {
  if (letter <= "~") return 1;
  if (/\p{M}/u.test(letter)) return 0;
  return wide.test(letter) ? 2 : 1;
}

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
