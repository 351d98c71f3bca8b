/** What is wrong with a layer. Whoever knows which layer it is makes a ContainerError of it. */
export class LayerRefusal extends Error {
  /** The entry at which it was seen, as a string of bytes. */
  readonly path: string | undefined;

  constructor(problem: string, path?: string) {
    super(problem);
    this.path = path;
  }
}

/** A name of a layer in words: short, and on one line. */
export function shown(path: string): string {
  const text = Buffer.from(path, "latin1").toString("utf8").replace(/\p{C}/gu, "?");
  return text.length <= 120 ? text : `${text.slice(0, 80)}…${text.slice(-30)}`;
}
