/** What a registry asks for in `WWW-Authenticate`. */
export type Challenge =
  | { readonly scheme: "basic" }
  | { readonly scheme: "bearer"; readonly realm: string; readonly service: string | undefined };

/** Bearer where both are offered. Undefined when neither is. */
export function parseChallenge(header: string | string[] | undefined): Challenge | undefined {
  const text = [header ?? []].flat().join(", ");
  const bearer = /\bbearer\s+(?=\w+\s*=)/i.exec(text);
  if (bearer) {
    const parameters = parametersOf(text.slice(bearer.index + bearer[0].length));
    const realm = parameters.get("realm");
    if (realm !== undefined) return { scheme: "bearer", realm, service: parameters.get("service") };
  }
  return /\bbasic\b/i.test(text.replace(/"(?:[^"\\]|\\.)*"/g, "")) ? { scheme: "basic" } : undefined;
}

function parametersOf(text: string): Map<string, string> {
  const parameters = new Map<string, string>();
  const pattern = /\s*(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)/y;
  for (let found = pattern.exec(text); found; found = pattern.exec(text)) {
    const [, key = "", quoted, bare = ""] = found;
    parameters.set(key.toLowerCase(), quoted?.replace(/\\(.)/g, "$1") ?? bare);
  }
  return parameters;
}
