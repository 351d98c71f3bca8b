/** Loaded only where it is needed: looking at a running daemon should not cost the start of a whole program. */
export async function loadApp(): Promise<typeof import("../app/app.ts")> {
  return await import("../app/app.ts");
}
