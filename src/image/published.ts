/** Where an image has been pushed: `published.json` beside it. An image built anew lies elsewhere and has none yet. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { writeFileDurably } from "./durable.ts";

const Publication = z.strictObject({
  /** As the registry is called on this computer, and the name without `/kernel` and `/root`. */
  registry: z.string(),
  name: z.string(),
  tags: z.array(z.string()),
  /** By digest, as hosts pull them. */
  kernel: z.string(),
  root: z.string(),
  pushedAt: z.number().int(),
  /** How the registry was spoken to, where it was said: whoever asks it later speaks to it in the same way. */
  plainHttp: z.boolean().exactOptional(),
  ca: z.string().exactOptional(),
});
export type Publication = z.infer<typeof Publication>;

const Record = z.strictObject({ schema: z.literal(1), publications: z.array(Publication) });

const fileOf = (imageDirectory: string) => join(imageDirectory, "published.json");

/** The latest first: that one counts. What cannot be read counts as not pushed: pushing again sends nothing that is there. */
export async function readPublications(imageDirectory: string): Promise<Publication[]> {
  try {
    return Record.parse(JSON.parse(await readFile(fileOf(imageDirectory), "utf8"))).publications;
  } catch {
    return [];
  }
}

export async function remember(imageDirectory: string, publication: Publication): Promise<void> {
  const { registry, name } = publication;
  const others = (await readPublications(imageDirectory)).filter(
    (each) => each.registry !== registry || each.name !== name,
  );
  const record = { schema: 1, publications: [publication, ...others] } satisfies z.input<typeof Record>;
  await writeFileDurably(fileOf(imageDirectory), `${JSON.stringify(record, null, 2)}\n`);
}
