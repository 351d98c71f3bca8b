import { type DestinationStream, destination as fileDestination, type Logger, levels, pino } from "pino";
import type { Log } from "../base/log.ts";
import type { LogSettings } from "./config.ts";
import { CENSOR, eventName, hiddenNames, namedFields, withoutTokens } from "./fields.ts";
import { formatFor, formatter, type Outlet } from "./formats.ts";

/** The program's log and the one thing about it that changes at run time. */
export interface RootLog {
  readonly log: Log;
  setLevel(level: LogSettings["level"]): void;
}

export interface LogOptions extends Outlet {
  readonly settings: LogSettings;
  /** Standard output unless given. */
  readonly destination?: DestinationStream;
}

/** Lines on standard output. Written at once: what was logged before a crash is there after it. */
export function createLog({ settings, destination, ...outlet }: LogOptions): RootLog {
  let threshold = numberOf(settings.level);
  const isOld = settings.fields === "old";
  const plain = destination ?? fileDestination({ fd: 1, sync: true });
  const format = formatter(formatFor(settings.format, outlet), outlet);
  const logger: Logger = pino(
    {
      level: "debug",
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      ...(isOld ? { redact: { paths: oldPaths, censor: CENSOR } } : {}),
    },
    { write: (line) => void plain.write(format(withoutTokens(line))) },
  );
  const write = (level: Level, fields: object, message: string) => {
    if (numberOf(level) < threshold) return;
    logger[level](isOld ? fields : namedFields({ event: eventName(message), ...fields }), message);
  };
  return {
    log: logWith({}, write),
    setLevel: (level) => {
      threshold = numberOf(level);
    },
  };
}

type Level = "debug" | "info" | "warn" | "error";

/** `about` stands in each line, where the line itself does not say otherwise. */
function logWith(about: object, write: (level: Level, fields: object, message: string) => void): Log {
  const at = (level: Level) => (fields: object, message: string) =>
    write(level, { ...about, ...fields }, message);
  return {
    ...{ debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") },
    child: (fields) => logWith({ ...about, ...fields }, write),
  };
}

/** Named as they are written; as deep as pino looks. */
const oldPaths = hiddenNames.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]);

function numberOf(level: LogSettings["level"]): number {
  return level === "silent" ? Number.POSITIVE_INFINITY : (levels.values[level] ?? 0);
}
