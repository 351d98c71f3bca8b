import { plainText } from "../base/plain-text.ts";

export interface LogLines {
  /** Takes bytes as they come and returns the whole lines among them, cleaned for a terminal. */
  push(bytes: Uint8Array): string[];
  /** What is left when no more comes. */
  end(): string[];
}

const SECTION_MARK = /section_(start|end):\d+:[^\r\n]*\r/g;

/**
 * Cuts a job's log into lines for people: no section marks, no colours or other control sequences (a job must not steer the
 * user's terminal), and of a line that was written over only its last state.
 */
export function createLogLines(): LogLines {
  const decoder = new TextDecoder();
  let rest = "";

  function clean(line: string): string {
    const states = line.replaceAll(SECTION_MARK, "").split("\r").map(plainText);
    return (states.findLast((state) => state !== "") ?? "").replaceAll("\n", " ").replaceAll("\t", "  ");
  }

  return {
    push(bytes) {
      const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      return lines.map(clean).filter((line) => line !== "");
    },
    end() {
      const line = clean(rest);
      rest = "";
      return line === "" ? [] : [line];
    },
  };
}
