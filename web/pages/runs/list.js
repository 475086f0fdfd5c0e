// What is known of the answer to one question for jobs: from the newest down, without holes. Pages are read again as
// the server changes; whatever they cover is replaced and the rest stays.

export const LIMIT = 50; // jobs of the newest page
// Without configurations, which are most of an answer.
export const FIELDS = 'id,kind,name,tags,notes,priority,owner,state,created,started,ended,attempts,devices,waiting,progress,config_name,result,import';

export class JobList {
        constructor(question) {
                this.question = question;
                this.jobs = [];    // newest first
                this.next = null;  // the cursor behind the last of them
                this.loaded = false;
                this.starts = [];  // of pages that were read: {before: an id, cursor}
        }

        // Puts the answer for the jobs below id `before` in its place. Answers the cursor where reading must go on to meet
        // what was known before, or null.
        merge({jobs, next}, before = Infinity) {
                const last = next === null ? 0 : jobs.at(-1).id;
                const top = this.jobs.find((j) => j.id < before)?.id ?? 0;
                const below = this.jobs.filter((j) => j.id < last);
                this.jobs = [...this.jobs.filter((j) => j.id >= before), ...jobs, ...below];
                this.loaded = true;
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
