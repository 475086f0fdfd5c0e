// In place of Intl where uPlot asks for it when it is loaded: the first use of the real one takes a page 50 ms of work, and how
// numbers and times are written is told to uPlot (axis.js, format.js).
export class Formatter {
        format = String;

        resolvedOptions = () => ({timeZone: 'UTC'});
}
