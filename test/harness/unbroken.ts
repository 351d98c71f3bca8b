/** What a command printed without the ends and indentation of its lines: a screen breaks sentences where it must. */
export function unbroken(text: string): string {
  return text.replace(/\s*\n\s*/g, " ");
}
