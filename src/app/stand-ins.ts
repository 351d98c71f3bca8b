/** The stand-in runner is for trying things: where machines boot it, operators are told, or they look for faults in their jobs. */
import type { Log } from "../base/log.ts";
import type { ImageSource, ReadyImage } from "../scheduler/ports.ts";

/** Images that say which runner is in them. */
interface Source {
  resolve(name: string): Promise<ReadyImage & { readonly runner?: { readonly kind: string } }>;
}

export interface WatchedImages {
  readonly images: ImageSource;
  /** One sentence for each image in use that holds the stand-in. */
  standIns(): string[];
}

/** The same images; what is found in them is remembered, and the first time told. */
export function watchForStandIns(source: Source, log: Log): WatchedImages {
  const found = new Map<string, string>();
  return {
    images: {
      async resolve(name) {
        const image = await source.resolve(name);
        if (image.runner?.kind !== "stand-in") {
          found.delete(name);
        } else if (found.get(name) !== image.digest) {
          found.set(name, image.digest);
          log.warn(
            { image: name, hint: hintFor(name) },
            "an image holds the stand-in runner, which lacks much of GitLab's own",
          );
        }
        return image;
      },
    },
    standIns: () =>
      [...found.keys()].map(
        (name) =>
          `image ${name} holds the stand-in runner, which lacks much of GitLab's own, such as the vault's secrets: ${hintFor(name)}`,
      ),
  };
}

function hintFor(name: string): string {
  return `firerunner image build --runner official${name === "base" ? "" : ` --name ${name}`}`;
}
