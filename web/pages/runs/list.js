// What is known of the answer to one question for jobs: from its first down, without holes. Pages are read again as the server
// changes: whatever they cover is replaced and the rest stays; or all of it, where the order is another or the server looks at all jobs.

export const LIMIT = 50; // jobs of the newest page
// Without configurations, which are most of an answer.
export const FIELDS = 'id,kind,name,tags,notes,priority,owner,state,created,started,ended,attempts,devices,waiting,progress,config_name,result,import';

export class JobList {
        constructor(question) {
                this.question = question;
                this.whole = Boolean(question.sort || question.order || question.config);
                this.jobs = [];
                this.next = null;  // the cursor behind the last of them
                this.total = null; // how many there are, where that is known
                this.loaded = false;
                this.starts = [];  // of pages that were read: {before: an id, cursor}
        }

        // As a whole: pages from the top. What moved from one to the next between two answers stands where it came first.
        put(...pages) {
                this.jobs = [...new Map(pages.flatMap((p) => p.jobs).map((j) => [j.id, j])).values()];
                ({next: this.next, total: this.total} = pages.at(-1));
                this.loaded = true;
        }

        // Puts the answer for the jobs below id `before` in its place. Answers the cursor where reading must go on to meet
        // what was known before, or null.
        merge({jobs, next, total = null}, before = Infinity) {
                const last = next === null ? 0 : jobs.at(-1).id;
                const top = this.jobs.find((j) => j.id < before)?.id ?? 0;
                const below = this.jobs.filter((j) => j.id < last);
                this.jobs = [...this.jobs.filter((j) => j.id >= before), ...jobs, ...below];
                [this.loaded, this.total] = [true, total];
                if (!below.length)
                        this.next = next;
                if (next !== null && !this.starts.some((s) => s.cursor === next))
                        this.starts.push({before: last, cursor: next});
                return top > 0 && top < last ? next : null;
        }

        // Where the page that holds row i was read from: {before, cursor}, or null: it is on the newest page, or there is none.
        start(i) {
                const id = this.jobs[i]?.id ?? Infinity;
                return this.starts.reduce((best, s) => (s.before > id && (!best || s.before < best.before) ? s : best), null);
        }
}
