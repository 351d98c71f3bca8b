/** Which of the two forms of metrics a client would rather have, by its `Accept` header. */

const OPENMETRICS = "application/openmetrics-text";
/** What a client lists beyond these is not looked at. */
const MOST_ENTRIES = 20;

/** OpenMetrics 1.0, if the client names it and likes it no less than plain text. */
export function wantsOpenMetrics(accept: string | undefined): boolean {
  const entries = (accept ?? "").split(",").slice(0, MOST_ENTRIES).map(readEntry);
  const open = entries.filter(
    ({ type, version }) => type === OPENMETRICS && (version ?? "1.0.0") === "1.0.0",
  );
  const plain = entries.filter(({ type }) => type === "text/plain" || type === "text/*" || type === "*/*");
  const liking = (list: readonly Entry[]) => Math.max(0, ...list.map(({ quality }) => quality));
  return liking(open) > 0 && liking(open) >= liking(plain);
}

interface Entry {
  readonly type: string;
  readonly version: string | undefined;
  /** 0 to 1. */
  readonly quality: number;
}

function readEntry(text: string): Entry {
  const [type = "", ...parameters] = text.split(";").map((part) => part.trim().toLowerCase());
  const parameter = (name: string) =>
    parameters.find((each) => each.startsWith(`${name}=`))?.slice(name.length + 1);
  const quality = Number(parameter("q") ?? "1");
  return {
    type,
    version: parameter("version")?.replaceAll('"', ""),
    quality: Number.isFinite(quality) ? quality : 0,
  };
}
