import { inspect } from "node:util";

const REDACTED = "[secret]";

/**
 * A value that must not be printed. Logging, JSON and string interpolation all give `[secret]`; only `reveal()` gives the
 * text, so every place that uses a secret can be found by that one word.
 */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  reveal(): string {
    return this.#text;
  }

  toString(): string {
    return REDACTED;
  }

  toJSON(): string {
    return REDACTED;
  }

  [inspect.custom](): string {
    return REDACTED;
  }
}
