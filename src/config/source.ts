/** A YAML file as values, with the place of each. */
import { type Document, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from "yaml";
import type { ConfigProblem } from "./errors.ts";

export type Path = readonly PropertyKey[];

/** A YAML file as values, with the place of each. */
export interface Source {
  readonly value: unknown;
  readonly problems: readonly ConfigProblem[];
  /** `file:line:column` of the key at `path`, or undefined when the file does not have it. */
  locate(path: Path): string | undefined;
}

/** Never quotes the text in a problem: a line of it may hold a token. */
export function parseSource(file: string, text: string): Source {
  const lineCounter = new LineCounter();
  const document = parseDocument(text, { lineCounter, prettyErrors: false, uniqueKeys: true });

  function place(offset: number): string {
    const { line, col } = lineCounter.linePos(offset);
    return `${file}:${line}:${col}`;
  }

  const problems = [...document.errors, ...document.warnings].map((error) => ({
    where: place(error.pos[0]),
    message: `not valid YAML: ${yamlProblem(error.message)}`,
  }));
  return {
    value: problems.length > 0 ? undefined : document.toJS(),
    problems,
    locate(path) {
      const offset = offsetAt(document, path);
      return offset === undefined ? undefined : place(offset);
    },
  };
}

/** The parser's words without the quotes of the text that some of them carry. */
function yamlProblem(message: string): string {
  return (message.split("\n")[0] ?? message).replace(/: .*$/s, "").replace(/[“"'`].*[”"'`]/, "…");
}

function offsetAt(document: Document, path: Path): number | undefined {
  let node: Node | null | undefined = document.contents;
  let offset = node?.range?.[0] ?? 0;
  for (const key of path) {
    const child = childOf(resolve(document, node), key);
    if (child === undefined) return undefined;
    offset = child.offset;
    node = child.node;
  }
  return offset;
}

function resolve(document: Document, node: Node | null | undefined): Node | null | undefined {
  return node && "source" in node && "resolve" in node && typeof node.resolve === "function"
    ? (node.resolve(document) as Node | undefined)
    : node;
}

function childOf(
  node: Node | null | undefined,
  key: PropertyKey,
): { node: Node | null; offset: number } | undefined {
  if (isSeq(node)) {
    const item = node.items[Number(key)] as Node | undefined;
    return item === undefined ? undefined : { node: item, offset: item.range?.[0] ?? 0 };
  }
  if (!isMap(node)) return undefined;
  const pair = node.items.find((each) => isScalar(each.key) && String(each.key.value) === String(key));
  if (pair === undefined) return undefined;
  return { node: pair.value as Node | null, offset: (pair.key as Node).range?.[0] ?? 0 };
}
