-- A database that mulund 0.1 made (schema 3), as sqlite3's .dump writes it: what a newer one must take over.
PRAGMA journal_mode = WAL;
PRAGMA application_id = 1296846404;
BEGIN TRANSACTION;
CREATE TABLE artifact (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        job INTEGER NOT NULL REFERENCES job (id),
        attempt INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        marked INTEGER NOT NULL DEFAULT 0, -- its file is being removed: no reader sees it
        step INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        created_us INTEGER NOT NULL,
        name TEXT NOT NULL,
        digest TEXT NOT NULL,
        metric REAL, -- NULL: none
        UNIQUE (job, name)
) STRICT;
INSERT INTO "artifact" VALUES(1,1,1,0,0,30,36,1795797129139874,'step-30.safetensors','31e1e8013a3a702283e8230c20ae6c84',NULL);
INSERT INTO "artifact" VALUES(2,3,3,0,0,5,35,1795797129396244,'step-5.safetensors','7539fe361d153963f9e812c09d0ce23d',NULL);
INSERT INTO "artifact" VALUES(3,3,4,0,0,10,36,1795797129439171,'step-10.safetensors','4b5db8e8c52d8673589c6a5c8a06eb85',NULL);
CREATE TABLE attempt (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        job INTEGER NOT NULL REFERENCES job (id),
        number INTEGER NOT NULL,
        started_us INTEGER NOT NULL,
        ended_us INTEGER NOT NULL DEFAULT 0,
        first_step INTEGER NOT NULL,
        last_seq INTEGER NOT NULL DEFAULT 0,
        checkpoints INTEGER NOT NULL DEFAULT 0,
        pid INTEGER NOT NULL DEFAULT 0, boot TEXT NOT NULL DEFAULT '', start_ticks INTEGER NOT NULL DEFAULT 0,
        UNIQUE (job, number)
) STRICT;
INSERT INTO "attempt" VALUES(1,1,1,1795797129099122,1795797129145334,0,4,1,6105,'e141c9a1-f489-4a55-8b11-dabcb0da3a3d',4201340);
INSERT INTO "attempt" VALUES(2,2,1,1795797129203719,1795797129293765,0,3,0,6117,'e141c9a1-f489-4a55-8b11-dabcb0da3a3d',4201352);
INSERT INTO "attempt" VALUES(3,3,1,1795797129358383,1795797129398830,0,3,1,6121,'e141c9a1-f489-4a55-8b11-dabcb0da3a3d',4201366);
INSERT INTO "attempt" VALUES(4,3,2,1795797129398877,0,5,15,1,6124,'e141c9a1-f489-4a55-8b11-dabcb0da3a3d',4201371);
CREATE TABLE dataset (
        name TEXT PRIMARY KEY,
        path TEXT NOT NULL,
        format TEXT NOT NULL,
        digest TEXT NOT NULL,
        n_train INTEGER NOT NULL,
        n_test INTEGER NOT NULL
, mean_red REAL NOT NULL DEFAULT 0, mean_green REAL NOT NULL DEFAULT 0, mean_blue REAL NOT NULL DEFAULT 0, source TEXT NOT NULL DEFAULT '', imported INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
INSERT INTO "dataset" VALUES('scripted','/srv/old/data','cifar10','00000000000000000000000000000000',1000,100,1.0,2.5,3.0,'',0);
CREATE TABLE job (
        id INTEGER PRIMARY KEY AUTOINCREMENT, -- an id is never used twice: links to a removed job stay dead
        kind INTEGER NOT NULL,
        state INTEGER NOT NULL,
        marked INTEGER NOT NULL DEFAULT 0, -- being removed: no reader sees it
        cancel_requested INTEGER NOT NULL DEFAULT 0,
        created_us INTEGER NOT NULL,
        started_us INTEGER NOT NULL DEFAULT 0,
        ended_us INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        step INTEGER NOT NULL DEFAULT 0,
        steps INTEGER NOT NULL DEFAULT 0,
        images_per_second REAL, -- NULL: unknown
        seconds_left REAL,
        source_job INTEGER NOT NULL DEFAULT 0, -- may be gone by now
        source_step INTEGER NOT NULL DEFAULT 0,
        name TEXT NOT NULL,
        config_name TEXT NOT NULL,
        tags TEXT NOT NULL,   -- JSON array of strings
        config TEXT NOT NULL, -- JSON, whole
        result TEXT,
        error TEXT
, identity TEXT NOT NULL DEFAULT '', accept_changed_data INTEGER NOT NULL DEFAULT 0, import TEXT) STRICT;
INSERT INTO "job" VALUES(1,0,2,0,0,1795797129097164,1795797129099122,1795797129139874,1,0,30,NULL,NULL,0,0,'first of the release before','','["old","try"]','{"vdm_type":"mulan_velocity","data":{"dataset":"scripted","flip":false},"model":{"unet_type":"vdm","with_fourier_features":true,"with_attention":false,"encoder":"unet","forward_n_layer":4,"latent_type":"topk","latent_size":50,"latent_k":15,"topk_noise_type":"gamma","z_conditioning":true,"reparam_type":"true","gamma_type":"poly_fixedend","gamma_min":-13.3,"gamma_max":5.0,"velocity_from_epsilon":false,"sigma_prior":1.0,"antithetic_time_sampling":true,"sample_softmax":false,"sm_n_timesteps":0,"sm_n_embd":128,"sm_n_layer":32,"sm_pdrop":0.1},"training":{"loss_weight":"likelihood","seed":1,"num_steps_lr_warmup":100,"num_steps_train":30,"num_steps_eval":0,"batch_size_train":8,"n_micro_batches":1,"batch_size_eval":128,"steps_per_logging":1000,"steps_per_eval":10000,"steps_per_save":10000},"optimizer":{"name":"adamw","b1":0.9,"b2":0.99,"eps":1e-08,"weight_decay":0.01,"learning_rate":0.0002,"lr_decay":false,"ema_rate":0.9999,"gradient_clip_norm":null},"evaluation":{"method":"sparse","split":"test","weights":"ema","precision":"float32","inspect":true,"n_timesteps":128,"n_images":0,"ode":{"n_samples":20,"dequantisation":"truncated_normal","constants":"exact","probe":"rademacher","fresh_probe":false,"solver":"dormand_prince","rtol":1e-05,"atol":1e-05,"step_size":"image","published_vdm_context":false},"seed":1},"sampling":{"n_images":64,"method":"ancestral","n_steps":1000,"seed":1,"weights":"ema","latent":"random","split":"test","rtol":1e-05,"atol":1e-05,"film_frames":0},"machine":{"backend":"auto","threads":0,"precision":"float32","plans":"measured"}}','{"bpd":3.5}',NULL,'7816ca45787660afba561698846cce93',0,NULL);
INSERT INTO "job" VALUES(2,0,3,0,0,1795797129192276,1795797129203719,1795797129284579,1,0,20,NULL,NULL,0,0,'fails','','[]','{"vdm_type":"mulan_velocity","data":{"dataset":"scripted","flip":false},"model":{"unet_type":"vdm","with_fourier_features":true,"with_attention":false,"encoder":"unet","forward_n_layer":4,"latent_type":"topk","latent_size":50,"latent_k":15,"topk_noise_type":"gamma","z_conditioning":true,"reparam_type":"true","gamma_type":"poly_fixedend","gamma_min":-13.3,"gamma_max":5.0,"velocity_from_epsilon":false,"sigma_prior":1.0,"antithetic_time_sampling":true,"sample_softmax":false,"sm_n_timesteps":0,"sm_n_embd":128,"sm_n_layer":32,"sm_pdrop":0.1},"training":{"loss_weight":"likelihood","seed":1,"num_steps_lr_warmup":100,"num_steps_train":20,"num_steps_eval":0,"batch_size_train":8,"n_micro_batches":1,"batch_size_eval":128,"steps_per_logging":1000,"steps_per_eval":10000,"steps_per_save":10000},"optimizer":{"name":"adamw","b1":0.9,"b2":0.99,"eps":1e-08,"weight_decay":0.01,"learning_rate":0.0002,"lr_decay":false,"ema_rate":0.9999,"gradient_clip_norm":null},"evaluation":{"method":"sparse","split":"test","weights":"ema","precision":"float32","inspect":true,"n_timesteps":128,"n_images":0,"ode":{"n_samples":20,"dequantisation":"truncated_normal","constants":"exact","probe":"rademacher","fresh_probe":false,"solver":"dormand_prince","rtol":1e-05,"atol":1e-05,"step_size":"image","published_vdm_context":false},"seed":1},"sampling":{"n_images":64,"method":"ancestral","n_steps":1000,"seed":1,"weights":"ema","latent":"random","split":"test","rtol":1e-05,"atol":1e-05,"film_frames":0},"machine":{"backend":"auto","threads":0,"precision":"float32","plans":"measured"}}',NULL,'{"class":"numeric","detail":"the loss is NaN","step":9}','c05bb04cf562adb559b25cef71211dff',0,NULL);
INSERT INTO "job" VALUES(3,0,1,0,0,1795797129357086,1795797129358383,0,2,16,100000,1.5,NULL,0,0,'still running','','["old"]','{"vdm_type":"mulan_velocity","data":{"dataset":"scripted","flip":false},"model":{"unet_type":"vdm","with_fourier_features":true,"with_attention":false,"encoder":"unet","forward_n_layer":4,"latent_type":"topk","latent_size":50,"latent_k":15,"topk_noise_type":"gamma","z_conditioning":true,"reparam_type":"true","gamma_type":"poly_fixedend","gamma_min":-13.3,"gamma_max":5.0,"velocity_from_epsilon":false,"sigma_prior":1.0,"antithetic_time_sampling":true,"sample_softmax":false,"sm_n_timesteps":0,"sm_n_embd":128,"sm_n_layer":32,"sm_pdrop":0.1},"training":{"loss_weight":"likelihood","seed":1,"num_steps_lr_warmup":100,"num_steps_train":100000,"num_steps_eval":0,"batch_size_train":8,"n_micro_batches":1,"batch_size_eval":128,"steps_per_logging":1000,"steps_per_eval":10000,"steps_per_save":10000},"optimizer":{"name":"adamw","b1":0.9,"b2":0.99,"eps":1e-08,"weight_decay":0.01,"learning_rate":0.0002,"lr_decay":false,"ema_rate":0.9999,"gradient_clip_norm":null},"evaluation":{"method":"sparse","split":"test","weights":"ema","precision":"float32","inspect":true,"n_timesteps":128,"n_images":0,"ode":{"n_samples":20,"dequantisation":"truncated_normal","constants":"exact","probe":"rademacher","fresh_probe":false,"solver":"dormand_prince","rtol":1e-05,"atol":1e-05,"step_size":"image","published_vdm_context":false},"seed":1},"sampling":{"n_images":64,"method":"ancestral","n_steps":1000,"seed":1,"weights":"ema","latent":"random","split":"test","rtol":1e-05,"atol":1e-05,"film_frames":0},"machine":{"backend":"auto","threads":0,"precision":"float32","plans":"measured"}}',NULL,NULL,'83d08077d7d280c8d7cfcc436188745b',0,NULL);
INSERT INTO "job" VALUES(4,0,0,0,0,1795797129603192,0,0,0,0,50,NULL,NULL,0,0,'waits','','["try"]','{"vdm_type":"mulan_velocity","data":{"dataset":"scripted","flip":false},"model":{"unet_type":"vdm","with_fourier_features":true,"with_attention":false,"encoder":"unet","forward_n_layer":4,"latent_type":"topk","latent_size":50,"latent_k":15,"topk_noise_type":"gamma","z_conditioning":true,"reparam_type":"true","gamma_type":"poly_fixedend","gamma_min":-13.3,"gamma_max":5.0,"velocity_from_epsilon":false,"sigma_prior":1.0,"antithetic_time_sampling":true,"sample_softmax":false,"sm_n_timesteps":0,"sm_n_embd":128,"sm_n_layer":32,"sm_pdrop":0.1},"training":{"loss_weight":"likelihood","seed":1,"num_steps_lr_warmup":100,"num_steps_train":50,"num_steps_eval":0,"batch_size_train":8,"n_micro_batches":1,"batch_size_eval":128,"steps_per_logging":1000,"steps_per_eval":10000,"steps_per_save":10000},"optimizer":{"name":"adamw","b1":0.9,"b2":0.99,"eps":1e-08,"weight_decay":0.01,"learning_rate":0.0002,"lr_decay":false,"ema_rate":0.9999,"gradient_clip_norm":null},"evaluation":{"method":"sparse","split":"test","weights":"ema","precision":"float32","inspect":true,"n_timesteps":128,"n_images":0,"ode":{"n_samples":20,"dequantisation":"truncated_normal","constants":"exact","probe":"rademacher","fresh_probe":false,"solver":"dormand_prince","rtol":1e-05,"atol":1e-05,"step_size":"image","published_vdm_context":false},"seed":1},"sampling":{"n_images":64,"method":"ancestral","n_steps":1000,"seed":1,"weights":"ema","latent":"random","split":"test","rtol":1e-05,"atol":1e-05,"film_frames":0},"machine":{"backend":"auto","threads":0,"precision":"float32","plans":"measured"}}',NULL,NULL,'f674292da28a13f14aecad457a84a37f',0,NULL);
INSERT INTO "job" VALUES(5,1,0,0,0,1795797129636955,0,0,0,0,0,NULL,NULL,1,30,'evaluation that waits','','[]','{"vdm_type":"mulan_velocity","data":{"dataset":"scripted","flip":false},"model":{"unet_type":"vdm","with_fourier_features":true,"with_attention":false,"encoder":"unet","forward_n_layer":4,"latent_type":"topk","latent_size":50,"latent_k":15,"topk_noise_type":"gamma","z_conditioning":true,"reparam_type":"true","gamma_type":"poly_fixedend","gamma_min":-13.3,"gamma_max":5.0,"velocity_from_epsilon":false,"sigma_prior":1.0,"antithetic_time_sampling":true,"sample_softmax":false,"sm_n_timesteps":0,"sm_n_embd":128,"sm_n_layer":32,"sm_pdrop":0.1},"training":{"loss_weight":"likelihood","seed":1,"num_steps_lr_warmup":100,"num_steps_train":30,"num_steps_eval":0,"batch_size_train":8,"n_micro_batches":1,"batch_size_eval":128,"steps_per_logging":1000,"steps_per_eval":10000,"steps_per_save":10000},"optimizer":{"name":"adamw","b1":0.9,"b2":0.99,"eps":1e-08,"weight_decay":0.01,"learning_rate":0.0002,"lr_decay":false,"ema_rate":0.9999,"gradient_clip_norm":null},"evaluation":{"method":"sparse","split":"test","weights":"ema","precision":"float32","inspect":true,"n_timesteps":128,"n_images":0,"ode":{"n_samples":20,"dequantisation":"truncated_normal","constants":"exact","probe":"rademacher","fresh_probe":false,"solver":"dormand_prince","rtol":1e-05,"atol":1e-05,"step_size":"image","published_vdm_context":false},"seed":1},"sampling":{"n_images":64,"method":"ancestral","n_steps":1000,"seed":1,"weights":"ema","latent":"random","split":"test","rtol":1e-05,"atol":1e-05,"film_frames":0},"machine":{"backend":"auto","threads":0,"precision":"float32","plans":"measured"}}',NULL,NULL,'67ed213b624faecf6e6c24360f94a979',0,NULL);
INSERT INTO "job" VALUES(6,0,4,0,0,1795797129676504,0,1795797129696579,0,0,60,NULL,NULL,0,0,'is cancelled','','[]','{"vdm_type":"mulan_velocity","data":{"dataset":"scripted","flip":false},"model":{"unet_type":"vdm","with_fourier_features":true,"with_attention":false,"encoder":"unet","forward_n_layer":4,"latent_type":"topk","latent_size":50,"latent_k":15,"topk_noise_type":"gamma","z_conditioning":true,"reparam_type":"true","gamma_type":"poly_fixedend","gamma_min":-13.3,"gamma_max":5.0,"velocity_from_epsilon":false,"sigma_prior":1.0,"antithetic_time_sampling":true,"sample_softmax":false,"sm_n_timesteps":0,"sm_n_embd":128,"sm_n_layer":32,"sm_pdrop":0.1},"training":{"loss_weight":"likelihood","seed":1,"num_steps_lr_warmup":100,"num_steps_train":60,"num_steps_eval":0,"batch_size_train":8,"n_micro_batches":1,"batch_size_eval":128,"steps_per_logging":1000,"steps_per_eval":10000,"steps_per_save":10000},"optimizer":{"name":"adamw","b1":0.9,"b2":0.99,"eps":1e-08,"weight_decay":0.01,"learning_rate":0.0002,"lr_decay":false,"ema_rate":0.9999,"gradient_clip_norm":null},"evaluation":{"method":"sparse","split":"test","weights":"ema","precision":"float32","inspect":true,"n_timesteps":128,"n_images":0,"ode":{"n_samples":20,"dequantisation":"truncated_normal","constants":"exact","probe":"rademacher","fresh_probe":false,"solver":"dormand_prince","rtol":1e-05,"atol":1e-05,"step_size":"image","published_vdm_context":false},"seed":1},"sampling":{"n_images":64,"method":"ancestral","n_steps":1000,"seed":1,"weights":"ema","latent":"random","split":"test","rtol":1e-05,"atol":1e-05,"film_frames":0},"machine":{"backend":"auto","threads":0,"precision":"float32","plans":"measured"}}',NULL,NULL,'1845a7f55d84c6dfbbc6e70b91a1a246',0,NULL);
INSERT INTO "job" VALUES(7,3,0,0,0,1795797129705922,0,0,0,0,0,NULL,NULL,0,0,'','','[]','{}',NULL,NULL,'a7606f7e663488693c773aafa332f7c9',0,'{"what":"events","path":"/tmp/evt"}');
INSERT INTO "job" VALUES(8,3,0,0,0,1795797129713856,0,0,0,0,0,NULL,NULL,0,0,'coming','','[]','{}',NULL,NULL,'5baa1277aa1df8d3fc3585978ac68a5c',0,'{"what":"dataset","name":"coming","path":"/tmp/evt"}');
CREATE TABLE job_event (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        job INTEGER NOT NULL REFERENCES job (id),
        time_us INTEGER NOT NULL,
        from_state INTEGER, -- NULL: submitted
        to_state INTEGER NOT NULL,
        trigger TEXT NOT NULL,
        detail TEXT
) STRICT;
INSERT INTO "job_event" VALUES(1,1,1795797129097164,NULL,0,'submit',NULL);
INSERT INTO "job_event" VALUES(2,1,1795797129099122,0,1,'start',NULL);
INSERT INTO "job_event" VALUES(3,1,1795797129139874,1,2,'done',NULL);
INSERT INTO "job_event" VALUES(4,2,1795797129192276,NULL,0,'submit',NULL);
INSERT INTO "job_event" VALUES(5,2,1795797129203719,0,1,'start',NULL);
INSERT INTO "job_event" VALUES(6,2,1795797129284579,1,3,'error',NULL);
INSERT INTO "job_event" VALUES(7,3,1795797129357086,NULL,0,'submit',NULL);
INSERT INTO "job_event" VALUES(8,3,1795797129358383,0,1,'start',NULL);
INSERT INTO "job_event" VALUES(9,3,1795797129398316,1,0,'lost','the worker was ended by signal 9 (Killed) without done, error or stopped; its log is empty');
INSERT INTO "job_event" VALUES(10,3,1795797129398877,0,1,'start',NULL);
INSERT INTO "job_event" VALUES(11,4,1795797129603192,NULL,0,'submit',NULL);
INSERT INTO "job_event" VALUES(12,5,1795797129636955,NULL,0,'submit',NULL);
INSERT INTO "job_event" VALUES(13,6,1795797129676504,NULL,0,'submit',NULL);
INSERT INTO "job_event" VALUES(14,6,1795797129696579,0,4,'cancel',NULL);
INSERT INTO "job_event" VALUES(15,7,1795797129705922,NULL,0,'submit',NULL);
INSERT INTO "job_event" VALUES(16,8,1795797129713856,NULL,0,'submit',NULL);
CREATE TABLE job_tag (
        tag TEXT NOT NULL,
        job INTEGER NOT NULL REFERENCES job (id),
        PRIMARY KEY (tag, job)
) STRICT, WITHOUT ROWID;
INSERT INTO "job_tag" VALUES('old',1);
INSERT INTO "job_tag" VALUES('try',1);
INSERT INTO "job_tag" VALUES('old',3);
INSERT INTO "job_tag" VALUES('try',4);
CREATE TABLE point (
        series INTEGER NOT NULL,
        step INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        ordinal INTEGER NOT NULL,
        time_ms INTEGER NOT NULL,
        value REAL,
        PRIMARY KEY (series, step, attempt, ordinal)
) STRICT, WITHOUT ROWID;
INSERT INTO "point" VALUES(1,0,1,8192,1795797129139,10.0);
INSERT INTO "point" VALUES(1,1,1,8193,1795797129139,5.0);
INSERT INTO "point" VALUES(1,2,1,8194,1795797129139,3.33333333333333348136e+00);
INSERT INTO "point" VALUES(1,3,1,8195,1795797129139,2.5);
INSERT INTO "point" VALUES(1,4,1,8196,1795797129139,2.0);
INSERT INTO "point" VALUES(1,5,1,8197,1795797129139,1.66666666666666674068e+00);
INSERT INTO "point" VALUES(1,6,1,8198,1795797129139,1.42857142857142860314e+00);
INSERT INTO "point" VALUES(1,7,1,8199,1795797129139,1.25);
INSERT INTO "point" VALUES(1,8,1,8200,1795797129139,1.11111111111111116045e+00);
INSERT INTO "point" VALUES(1,9,1,8201,1795797129139,1.0);
INSERT INTO "point" VALUES(1,10,1,8202,1795797129139,9.0909090909090906063e-01);
INSERT INTO "point" VALUES(1,11,1,8203,1795797129139,8.3333333333333337034e-01);
INSERT INTO "point" VALUES(1,12,1,8204,1795797129139,7.6923076923076927347e-01);
INSERT INTO "point" VALUES(1,13,1,8205,1795797129139,7.14285714285714301574e-01);
INSERT INTO "point" VALUES(1,14,1,8206,1795797129139,6.66666666666666629659e-01);
INSERT INTO "point" VALUES(1,15,1,8207,1795797129139,0.625);
INSERT INTO "point" VALUES(1,16,1,8208,1795797129139,5.88235294117647078415e-01);
INSERT INTO "point" VALUES(1,17,1,8209,1795797129139,5.55555555555555580227e-01);
INSERT INTO "point" VALUES(1,18,1,8210,1795797129139,5.26315789473684181309e-01);
INSERT INTO "point" VALUES(1,19,1,8211,1795797129139,0.5);
INSERT INTO "point" VALUES(1,20,1,8212,1795797129139,4.76190476190476164042e-01);
INSERT INTO "point" VALUES(1,21,1,8213,1795797129139,4.54545454545454530315e-01);
INSERT INTO "point" VALUES(1,22,1,8214,1795797129139,4.34782608695652161845e-01);
INSERT INTO "point" VALUES(1,23,1,8215,1795797129139,4.1666666666666668517e-01);
INSERT INTO "point" VALUES(1,24,1,8216,1795797129139,0.4);
INSERT INTO "point" VALUES(1,25,1,8217,1795797129139,3.84615384615384636735e-01);
INSERT INTO "point" VALUES(1,26,1,8218,1795797129139,3.7037037037037034981e-01);
INSERT INTO "point" VALUES(1,27,1,8219,1795797129139,3.57142857142857150787e-01);
INSERT INTO "point" VALUES(1,28,1,8220,1795797129139,3.44827586206896574694e-01);
INSERT INTO "point" VALUES(1,29,1,8221,1795797129139,3.33333333333333314829e-01);
INSERT INTO "point" VALUES(2,0,2,8192,1795797129284,10.0);
INSERT INTO "point" VALUES(2,1,2,8193,1795797129284,5.0);
INSERT INTO "point" VALUES(2,2,2,8194,1795797129284,3.33333333333333348136e+00);
INSERT INTO "point" VALUES(2,3,2,8195,1795797129284,2.5);
INSERT INTO "point" VALUES(2,4,2,8196,1795797129284,2.0);
INSERT INTO "point" VALUES(2,5,2,8197,1795797129284,1.66666666666666674068e+00);
INSERT INTO "point" VALUES(2,6,2,8198,1795797129284,1.42857142857142860314e+00);
INSERT INTO "point" VALUES(2,7,2,8199,1795797129284,1.25);
INSERT INTO "point" VALUES(2,8,2,8200,1795797129284,1.11111111111111116045e+00);
INSERT INTO "point" VALUES(2,9,2,8201,1795797129284,1.0);
INSERT INTO "point" VALUES(3,0,3,8192,1795797129393,10.0);
INSERT INTO "point" VALUES(3,1,3,8193,1795797129393,5.0);
INSERT INTO "point" VALUES(3,2,3,8194,1795797129393,3.33333333333333348136e+00);
INSERT INTO "point" VALUES(3,3,3,8195,1795797129393,2.5);
INSERT INTO "point" VALUES(3,4,3,8196,1795797129393,2.0);
INSERT INTO "point" VALUES(3,5,4,8192,1795797129436,1.66666666666666674068e+00);
INSERT INTO "point" VALUES(3,6,4,8193,1795797129436,1.42857142857142860314e+00);
INSERT INTO "point" VALUES(3,7,4,8194,1795797129436,1.25);
INSERT INTO "point" VALUES(3,8,4,8195,1795797129436,1.11111111111111116045e+00);
INSERT INTO "point" VALUES(3,9,4,8196,1795797129436,1.0);
INSERT INTO "point" VALUES(3,10,4,16384,1795797129448,9.0909090909090906063e-01);
INSERT INTO "point" VALUES(3,11,4,24576,1795797129498,8.3333333333333337034e-01);
INSERT INTO "point" VALUES(3,12,4,32768,1795797129548,7.6923076923076927347e-01);
INSERT INTO "point" VALUES(3,13,4,40960,1795797129600,7.14285714285714301574e-01);
INSERT INTO "point" VALUES(3,14,4,49152,1795797129650,6.66666666666666629659e-01);
INSERT INTO "point" VALUES(3,15,4,57344,1795797129700,0.625);
CREATE TABLE series (
        id INTEGER PRIMARY KEY,
        job INTEGER NOT NULL REFERENCES job (id),
        name TEXT NOT NULL,
        points INTEGER NOT NULL DEFAULT 0,
        last_step INTEGER NOT NULL DEFAULT 0,
        last REAL,
        min REAL,
        max REAL,
        UNIQUE (job, name)
) STRICT;
INSERT INTO "series" VALUES(1,1,'train/bpd',30,29,3.33333333333333314829e-01,3.33333333333333314829e-01,10.0);
INSERT INTO "series" VALUES(2,2,'train/bpd',10,9,1.0,1.0,10.0);
INSERT INTO "series" VALUES(3,3,'train/bpd',16,15,0.625,0.625,10.0);
CREATE INDEX job_by_state ON job (state, id);
CREATE INDEX job_by_kind ON job (kind, id);
CREATE INDEX job_by_mark ON job (id) WHERE marked;
CREATE INDEX job_tag_by_job ON job_tag (job);
CREATE INDEX job_event_by_job ON job_event (job, id);
CREATE INDEX artifact_by_job ON artifact (job, id);
CREATE INDEX artifact_by_mark ON artifact (id) WHERE marked;
CREATE INDEX attempt_open ON attempt (id) WHERE ended_us = 0;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('job',8);
INSERT INTO "sqlite_sequence" VALUES('job_event',16);
INSERT INTO "sqlite_sequence" VALUES('attempt',4);
INSERT INTO "sqlite_sequence" VALUES('artifact',3);
COMMIT;
PRAGMA user_version = 3;
