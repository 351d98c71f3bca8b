/**
 * Plain scalars as GitLab reads them. It uses Ruby's YAML library, which follows YAML 1.1 with habits of its own: single letters
 * (`y`, `n`) are no booleans, `12:30` is hours and minutes in seconds, numbers may hold `_` and `,`. The patterns are those of Ruby's
 * scanner (psych, scalar_scanner.rb), as facts.
 */
import type { ScalarTag } from "yaml";

const yes = /^(?:yes|true|on)$/i;
const no = /^(?:no|false|off)$/i;
const nothing = /^(?:~|null|)$/i;
const integer =
  /^[-+]?(?:0|[1-9](?:[0-9]|,[0-9]|_[0-9])*|0[_,]*[0-7_,]+|0[_,]*x[0-9a-fA-F_,]+|0[_,]*b[01_,]+)$/;
const clock = /^[-+]?\d[\d_]*(?::[0-5]?\d){1,2}(?:\.[\d_]*)?$/;
const float = /^[-+]?(?:\d[\d_,]*)?\.(?=\d|[eE]|$)\d*(?:[eE][-+]\d+)?$/;
const endless = /^(?:[-+]?\.inf|\.nan)$/i;
const date =
  /^-?\d{4}-\d{1,2}-\d{1,2}(?:(?:[Tt]|\s+)\d{1,2}:\d\d:\d\d(?:\.\d*)?(?:\s*(?:Z|[-+]\d{1,2}:?(?:\d\d)?))?)?$/;

export const rubyScalars: readonly ScalarTag[] = [
  scalar("null", nothing, () => null),
  scalar("bool", yes, () => true),
  scalar("bool", no, () => false),
  scalar("timestamp", date, (text, refuse) => {
    refuse(`GitLab does not take a date here: put ${text} in quotes`);
    return text;
  }),
  scalar("int", clock, (text) => secondsOf(text)),
  scalar("int", integer, (text) => integerOf(text)),
  scalar("float", float, (text) =>
    /\d/.test(text) ? rubyFloat(Number(text.replaceAll(/[_,]/g, ""))) : text,
  ),
  scalar("float", endless, (text) =>
    /nan/i.test(text) ? "NaN" : text.startsWith("-") ? "-Infinity" : "Infinity",
  ),
];

function scalar(
  name: string,
  test: RegExp,
  resolve: (text: string, refuse: (message: string) => void) => unknown,
): ScalarTag {
  return { tag: `tag:yaml.org,2002:${name}`, default: true, test, resolve };
}

/** What does not fit a number exactly stays text: nothing counts with it. */
function integerOf(text: string): number | string {
  const digits = text.replaceAll(/[_,]/g, "").toLowerCase();
  const [, sign = "", rest = ""] = /^([-+]?)(.*)$/.exec(digits) ?? [];
  const octal = /^0[0-7]+$/.test(rest) ? `0o${rest.slice(1)}` : rest;
  const value = BigInt(octal) * (sign === "-" ? -1n : 1n);
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : String(value);
}

/** The first part counts as hours, also where there are only two. */
function secondsOf(text: string): number | string {
  const parts = text.replaceAll("_", "").split(":");
  const seconds = parts.reduce((sum, part, place) => sum + Number(part) * 60 ** (2 - place), 0);
  return text.includes(".") ? rubyFloat(seconds) : seconds;
}

/** A float in Ruby's words: `1.0`, `1.5e-07`. Floats are only ever texts of variables, so that is what they become here. */
function rubyFloat(value: number): string {
  const size = Math.abs(value);
  if (value !== 0 && (size < 1e-4 || size >= 1e16)) {
    const [mantissa = "", exponent = ""] = value.toExponential().split("e");
    const digits = exponent.slice(1).padStart(2, "0");
    return `${mantissa.includes(".") ? mantissa : `${mantissa}.0`}e${exponent[0]}${digits}`;
  }
  return Number.isInteger(value) ? `${value}.0` : String(value);
}
