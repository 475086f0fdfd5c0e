// Asks for what the page needs first while the script that shows it is still on its way: of the list its first rows, which who asks for the
// same gets as the answer, of another page its script, which the list would need last.
import {jobsPath} from './lib/api.js';
import {FIELDS, LIMIT} from './pages/runs/list.js';

if (/^#?\/?$/.test(location.hash)) // the list as it usually is
        document.head.append(Object.assign(document.createElement('link'), {rel: 'preload', as: 'fetch', crossOrigin: 'anonymous', href: jobsPath({fields: FIELDS, limit: LIMIT})}));
else if (!/^#?\/?\?/.test(location.hash))
        document.querySelectorAll('link[rel=prefetch]').forEach((link) => link.setAttribute('rel', 'modulepreload'));
