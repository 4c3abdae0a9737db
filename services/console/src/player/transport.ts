/** Where in a recording one is: the one clock that pictures, plots and the timeline follow. */

type Listener = (frame: number) => void;

/** Speeds of J and L: each press takes the next one. */
const SPEEDS = [1, 2, 4, 8];

export class Transport {
  /** The frame that is shown, `first` to `end - 1`. */
  frame: number;
  /** Frames a second are played, as a multiple of the recording's; negative: backwards; 0: paused. */
  rate = 0;
  first: number;
  end: number;
  private readonly fps: number;
  private readonly listeners = new Set<Listener>();
  private readonly rateListeners = new Set<() => void>();
  private position = 0;
  private seenAt = 0;
  private asked = 0;

  constructor(fps: number, first: number, end: number, frame = first) {
    this.fps = fps;
    this.first = first;
    this.end = end;
    this.frame = this.clamp(frame);
  }

  /** Called with each new frame, and at once with the present one. */
  follow(listener: Listener): () => void {
    this.listeners.add(listener);
    listener(this.frame);
    return () => this.listeners.delete(listener);
  }

  /** Called when playing begins, ends, or changes its speed. */
  followRate(listener: () => void): () => void {
    this.rateListeners.add(listener);
    return () => this.rateListeners.delete(listener);
  }

  /** More frames have been recorded. */
  extend(end: number): void {
    this.end = Math.max(this.first + 1, end);
  }

  seek(frame: number): void {
    this.position = this.clamp(frame);
    this.show(this.position);
  }

  /** Pause, and go so many frames on. */
  step(frames: number): void {
    this.setRate(0);
    this.seek(this.frame + frames);
  }

  toggle(): void {
    if (this.rate !== 0) this.setRate(0);
    else this.play(1);
  }

  /** J, K, L: backwards, pause, forwards; again: faster. */
  shuttle(direction: -1 | 1): void {
    const now = this.rate * direction;
    const faster = SPEEDS.find((speed) => speed > now);
    this.play(direction * (now > 0 ? (faster ?? SPEEDS.at(-1)!) : 1));
  }

  pause(): void {
    this.setRate(0);
  }

  close(): void {
    cancelAnimationFrame(this.asked);
    this.listeners.clear();
    this.rateListeners.clear();
  }

  private play(rate: number): void {
    // At the end, playing begins anew.
    if (rate > 0 && this.frame >= this.end - 1) this.seek(this.first);
    if (rate < 0 && this.frame <= this.first) this.seek(this.end - 1);
    this.position = this.frame;
    this.setRate(rate);
  }

  private setRate(rate: number): void {
    if (rate === this.rate) return;
    const idle = this.rate === 0;
    this.rate = rate;
    for (const each of [...this.rateListeners]) each();
    if (rate !== 0 && idle) {
      this.seenAt = performance.now();
      this.asked = requestAnimationFrame(this.tick);
    }
  }

  private tick = (now: number): void => {
    if (this.rate === 0) return;
    this.position += (Math.max(0, now - this.seenAt) / 1000) * this.fps * this.rate;
    this.seenAt = now;
    const over = this.rate > 0 ? this.position >= this.end - 1 : this.position <= this.first;
    this.show(this.clamp(this.rate > 0 ? Math.floor(this.position) : Math.ceil(this.position)));
    if (over) this.setRate(0);
    else this.asked = requestAnimationFrame(this.tick);
  };

  private show(frame: number): void {
    if (frame === this.frame) return;
    this.frame = frame;
    for (const each of [...this.listeners]) each(frame);
  }

  private clamp(frame: number): number {
    return Math.min(Math.max(Math.round(frame), this.first), Math.max(this.first, this.end - 1));
  }
}
