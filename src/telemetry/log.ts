import {
  type DestinationStream,
  destination as fileDestination,
  type Level,
  type Logger,
  levels,
  pino,
} from "pino";
import pretty from "pino-pretty";
import type { Log } from "../base/log.ts";
import { escapeUnseen, plainText } from "../base/text.ts";
import type { LogSettings } from "./config.ts";

/** Field names whose values are never written, wherever they stand. Secret objects hide themselves. */
const hidden = [
  "token",
  "jobToken",
  "runnerToken",
  "authorization",
  "Authorization",
  "password",
  "secret",
  "payload",
];
const paths = hidden.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]);

/** The program's log and the one thing about it that changes at run time. */
export interface RootLog {
  readonly log: Log;
  setLevel(level: LogSettings["level"]): void;
}

export interface LogOptions {
  readonly settings: LogSettings;
  /** Whether standard output is a terminal. */
  readonly terminal: boolean;
  /** Standard output unless given. */
  readonly destination?: DestinationStream;
}

/** JSON lines on standard output, or lines for people. Written at once: what was logged before a crash is there after it. */
export function createLog({ settings, terminal, destination }: LogOptions): RootLog {
  // pino copies the level into children when they are made, so the threshold is kept here for all of them.
  let threshold = numberOf(settings.level);
  const isPretty = settings.format === "pretty" || (settings.format === "auto" && terminal);
  const plain = destination ?? fileDestination({ fd: 1, sync: true });
  const logger: Logger = pino(
    {
      level: "debug",
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: { paths, censor: "[secret]" },
      formatters: { level: (label) => ({ level: label }) },
      hooks: {
        logMethod(args, method, level) {
          if (level >= threshold) method.apply(this, args);
        },
      },
    },
    isPretty ? prettyStream(plain, terminal) : jsonStream(plain),
  );
  return {
    log: logger,
    setLevel: (level) => {
      threshold = numberOf(level);
    },
  };
}

function prettyStream(destination: DestinationStream, colorize: boolean): DestinationStream {
  const format = pretty.prettyFactory({ colorize, translateTime: "SYS:HH:MM:ss.l", singleLine: true });
  return {
    write: (line) => {
      destination.write(format(JSON.parse(line, (_name, value) => shown(value))));
    },
  };
}

/** Reasons and names in a line may be other people's words, and it may be read on a terminal. */
function shown(value: unknown): unknown {
  return typeof value === "string" ? plainText(value) : value;
}

function jsonStream(destination: DestinationStream): DestinationStream {
  return { write: (line) => destination.write(escapeUnseen(line)) };
}

function numberOf(level: LogSettings["level"]): number {
  return level === "silent" ? Number.POSITIVE_INFINITY : (levels.values[level satisfies Level] ?? 0);
}
