/** Numbers of sessions as people write them. Pure. */

const MOST = 1000;

/** "1, 2, 5-8" as numbers, each once; null if it is something else, empty, or more than an export may have. */
export function readNumbers(text: string): number[] | null {
  const found = new Set<number>();
  for (const part of text.split(/[\s,]+/).filter(Boolean)) {
    const range = /^([1-9]\d{0,8})(?:[-–]([1-9]\d{0,8}))?$/.exec(part);
    if (range === null) return null;
    const [first, last] = [Number(range[1]), Number(range[2] ?? range[1])];
    if (last < first || last - first >= MOST) return null;
    for (let number = first; number <= last; number++) found.add(number);
  }
  return found.size === 0 || found.size > MOST ? null : [...found];
}

/** The same, as short as it can be written. */
export function writeNumbers(numbers: number[]): string {
  const parts: string[] = [];
  for (let at = 0; at < numbers.length; at++) {
    const first = at;
    while (numbers[at + 1] === numbers[at]! + 1) at++;
    parts.push(first === at ? String(numbers[at]) : `${numbers[first]}-${numbers[at]}`);
  }
  return parts.join(", ");
}
