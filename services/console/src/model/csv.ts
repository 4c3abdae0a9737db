/** Reads CSV as the backend writes frames (RFC 4180: quotes, doubled quotes, line breaks within them). Pure. */

export interface Columns {
  names: string[];
  /** Cells of each column, in the order of the rows; "" where there is nothing. */
  cells: string[][];
  rows: number;
}

export function readCsv(text: string): Columns {
  const lines = cellsOf(text);
  const names = lines[0] ?? [];
  const cells: string[][] = names.map(() => []);
  for (let row = 1; row < lines.length; row++) {
    const line = lines[row]!;
    for (let column = 0; column < names.length; column++) cells[column]!.push(line[column] ?? "");
  }
  return { names, cells, rows: Math.max(0, lines.length - 1) };
}

function cellsOf(text: string): string[][] {
  const lines: string[][] = [];
  let line: string[] = [];
  let at = 0;
  while (at < text.length) {
    let cell: string;
    if (text[at] === '"') {
      let end = at + 1;
      while (end < text.length) {
        end = text.indexOf('"', end);
        if (end < 0) end = text.length;
        else if (text[end + 1] === '"') {
          end += 2;
          continue;
        }
        break;
      }
      cell = text.slice(at + 1, end).replaceAll('""', '"');
      at = end + 1;
    } else {
      let end = at;
      while (end < text.length && text[end] !== "," && text[end] !== "\n" && text[end] !== "\r") end++;
      cell = text.slice(at, end);
      at = end;
    }
    line.push(cell);
    if (text[at] === ",") {
      at++;
      // A comma at the very end is followed by an empty cell.
      if (at >= text.length) line.push("");
      continue;
    }
    if (text[at] === "\r") at++;
    if (text[at] === "\n") at++;
    lines.push(line);
    line = [];
  }
  if (line.length > 0) lines.push(line);
  return lines;
}
