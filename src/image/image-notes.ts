import { type AbilityName, type ImageNote, lackingNote } from "../domain/images.ts";
import type { ImageStore } from "./store.ts";

/** What the images of these names lack of what is wanted of them; nothing of those that are not here. Reads image.json only. */
export async function imageNotes(
  store: Pick<ImageStore, "list">,
  names: readonly string[],
  wanted: readonly AbilityName[],
): Promise<ImageNote[]> {
  const images = await store.list();
  return [...new Set(names)].flatMap((name) => {
    const image = images.find((each) => each.names.includes(name));
    const note = image && lackingNote({ ...image.manifest, name }, wanted);
    return note ? [note] : [];
  });
}
