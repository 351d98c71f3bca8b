/** Text for people in lines of a screen's width. Colours do not count, wide letters count twice; no word is ever broken in two. */
import { stripVTControlCharacters } from "node:util";

/** Where nobody says how wide the screen is: files, pipes, terminals that do not tell. */
export const USUAL_WIDTH = 80;

/** Below this lines would be single words. */
const LEAST_ROOM = 20;
/** Stands for a space at which no line may end. Texts for people have no such letter (plain-text.ts). */
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
