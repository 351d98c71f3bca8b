/**
 * Images that a machine pulls since its job names them, and the parts that they turned out to have. Only these are open to it whatever its
 * pool's egress is: not their registries, and no other images there, for a request that a job could make up would be a way out. What is left to
 * the job, the choice of a part, it has a number of times.
 */
import { z } from "zod";
import { parseJson } from "../../base/json.ts";
import type { PulledImage } from "../../relay/mirror/port.ts";
import { type ImageReference, parseImageName } from "../reference.ts";

/** An image of the job's, and whether the operator has named it. */
export interface OwnImage {
  readonly reference: ImageReference;
  readonly isTrusted: boolean;
}

export interface OwnImages {
  /** As `find`, and counts: nothing is to be had for ever. */
  ask(asked: ImageReference): OwnImage | undefined;
  /** The image that is asked for, or of which this is known to be a part; undefined for anything else. */
  find(asked: ImageReference): OwnImage | undefined;
  /** Images of the same repository whose parts have not all been seen, perhaps by an earlier process. */
  unread(asked: ImageReference): readonly OwnImage[];
  /** All parts of it have been seen. */
  markRead(image: OwnImage): void;
  /** Something of an image, and, where it is a document, what it leads to. */
  learn(image: OwnImage, digest: string, document?: Buffer): void;
}

/** Of one machine; an image has some twenty. Beyond them nothing more is opened. */
const PARTS_MAX = 4_000;
/** A client asks twice for a part, and the runner has it try three times, as the engine has itself. */
const ASKED_MAX = 32;

export function createOwnImages(pulled: readonly PulledImage[]): OwnImages {
  const images = pulled.map(
    ({ name, isTrusted }): OwnImage => ({ reference: parseImageName(name), isTrusted }),
  );
  const parts = new Map<string, OwnImage>();
  const read = new Set<OwnImage>();
  const counts = new Map<string, number>();

  function add(image: OwnImage, digest: string): void {
    const key = partKey(image.reference, digest);
    const known = parts.get(key);
    // What two images have in common is as open as the more open of them.
    if (known === undefined ? parts.size < PARTS_MAX : image.isTrusted) parts.set(key, image);
  }

  function find(asked: ImageReference): OwnImage | undefined {
    const named = images.filter((image) => isSame(image.reference, asked));
    return named.find(({ isTrusted }) => isTrusted) ?? named[0] ?? parts.get(partKey(asked, asked.digest));
  }

  return {
    find,
    ask(asked) {
      const found = find(asked);
      const count = (counts.get(asked.name) ?? 0) + 1;
      if (found === undefined || count > ASKED_MAX) return undefined;
      counts.set(asked.name, count);
      return found;
    },
    unread: (asked) => images.filter((image) => isSameRepository(image.reference, asked) && !read.has(image)),
    markRead: (image) => void read.add(image),
    learn(image, digest, document) {
      add(image, digest);
      for (const each of document === undefined ? [] : partsIn(document)) add(image, each);
    },
  };
}

function isSame(own: ImageReference, asked: ImageReference): boolean {
  if (!isSameRepository(own, asked)) return false;
  return own.digest === undefined
    ? own.tag === asked.tag && asked.digest === undefined
    : own.digest === asked.digest;
}

function isSameRepository(own: ImageReference, asked: ImageReference): boolean {
  return own.registry === asked.registry && own.repository === asked.repository;
}

function partKey({ registry, repository }: ImageReference, digest = ""): string {
  return `${registry}/${repository}@${digest}`;
}

const Part = z.looseObject({ digest: z.string() });
const Parts = z.looseObject({
  manifests: z.array(Part).optional(),
  config: Part.optional(),
  layers: z.array(Part).optional(),
});

function partsIn(document: Buffer): string[] {
  const {
    manifests = [],
    config,
    layers = [],
  } = Parts.safeParse(parseJson(document.toString("utf8"))).data ?? {};
  return [...manifests, ...(config ? [config] : []), ...layers].map(({ digest }) => digest);
}
