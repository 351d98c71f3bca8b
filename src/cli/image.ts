import type { Command } from "commander";
import type { Run } from "./context.ts";
import { addImageBuild } from "./image/build.ts";
import { addImageList } from "./image/list.ts";
import { addImagePush } from "./image/push.ts";
import { addImageVerify } from "./image/verify.ts";

export function addImage(program: Command, run: Run): void {
  const image = program.command("image").description("what machines boot");
  addImageBuild(image, run);
  addImageList(image, run);
  addImageVerify(image, run);
  addImagePush(image, run);
}
