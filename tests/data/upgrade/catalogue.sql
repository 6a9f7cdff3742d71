CREATE TABLE meta (
	"key" VARCHAR NOT NULL, 
	value VARCHAR NOT NULL, 
	PRIMARY KEY ("key")
);
CREATE TABLE hosts (
	name VARCHAR NOT NULL, 
	identity VARCHAR NOT NULL, 
	address VARCHAR NOT NULL, 
	state VARCHAR NOT NULL, 
	method VARCHAR NOT NULL, 
	first_seen FLOAT NOT NULL, 
	last_success FLOAT, 
	error VARCHAR NOT NULL, 
	pending_bytes BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE pins (
	identity VARCHAR NOT NULL, 
	"key" VARCHAR NOT NULL, 
	first_used FLOAT NOT NULL, 
	PRIMARY KEY (identity)
);
CREATE TABLE experiments (
	id VARCHAR NOT NULL, 
	directory VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	created FLOAT NOT NULL, 
	moved_to VARCHAR, 
	aliases VARCHAR DEFAULT '[]' NOT NULL, 
	gone BOOLEAN DEFAULT '0' NOT NULL, 
	renaming VARCHAR, 
	PRIMARY KEY (id), 
	UNIQUE (directory)
);
CREATE TABLE runs (
	id VARCHAR NOT NULL, 
	storage VARCHAR NOT NULL, 
	place VARCHAR NOT NULL, 
	host VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	experiment VARCHAR, 
	facts VARCHAR NOT NULL, 
	step INTEGER, 
	seconds_left FLOAT, 
	PRIMARY KEY (id), 
	UNIQUE (storage, place)
);
CREATE TABLE files (
	target VARCHAR NOT NULL, 
	storage VARCHAR NOT NULL, 
	place VARCHAR NOT NULL, 
	host VARCHAR NOT NULL, 
	experiment VARCHAR, 
	kind VARCHAR NOT NULL, 
	remote_size BIGINT NOT NULL, 
	mtime_ns BIGINT NOT NULL, 
	ctime_ns BIGINT NOT NULL, 
	inode BIGINT NOT NULL, 
	size BIGINT NOT NULL, 
	sha256 VARCHAR NOT NULL, 
	fetched_at FLOAT NOT NULL, 
	reason VARCHAR NOT NULL, 
	marker BOOLEAN NOT NULL, 
	PRIMARY KEY (target)
);
CREATE INDEX files_by_source ON files (storage, place);
CREATE INDEX files_by_experiment ON files (experiment);
CREATE TABLE intents (
	id INTEGER NOT NULL, 
	files VARCHAR NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE transfers (
	name VARCHAR NOT NULL, 
	storage VARCHAR NOT NULL, 
	place VARCHAR NOT NULL, 
	synced BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE links (
	path VARCHAR NOT NULL, 
	target VARCHAR NOT NULL, 
	PRIMARY KEY (path)
);
CREATE TABLE eval_configs (
	storage VARCHAR NOT NULL, 
	place VARCHAR NOT NULL, 
	version VARCHAR NOT NULL, 
	training_run VARCHAR, 
	PRIMARY KEY (storage, place)
);
CREATE TABLE requests (
	id INTEGER NOT NULL, 
	asked_at FLOAT NOT NULL, 
	kind VARCHAR NOT NULL, 
	storage VARCHAR NOT NULL, 
	place VARCHAR NOT NULL, 
	detail VARCHAR NOT NULL, 
	taken_at FLOAT, 
	settled_at FLOAT, 
	outcome VARCHAR NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE verdicts (
	identity VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	verdict VARCHAR NOT NULL, 
	judged_at FLOAT NOT NULL, 
	idle_since FLOAT, 
	cents_per_hour BIGINT, 
	PRIMARY KEY (identity)
);
CREATE TABLE releases (
	id INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	host VARCHAR NOT NULL, 
	identity VARCHAR NOT NULL, 
	why VARCHAR NOT NULL, 
	outcome VARCHAR NOT NULL, 
	detail VARCHAR NOT NULL, 
	by_hand BOOLEAN NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE left_out (
	id INTEGER NOT NULL, 
	host VARCHAR NOT NULL, 
	experiment VARCHAR, 
	place VARCHAR NOT NULL, 
	size BIGINT, 
	entries INTEGER NOT NULL, 
	reason VARCHAR NOT NULL, 
	PRIMARY KEY (id)
);
CREATE INDEX left_out_by_experiment ON left_out (experiment);
CREATE INDEX left_out_by_host ON left_out (host);
CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO alembic_version (version_num) VALUES ('0006');
INSERT INTO meta (key, value) VALUES ('data_root', '23c1f0ed-b0b0-4070-8afc-c1c15ed27ca9');
INSERT INTO meta (key, value) VALUES ('devices of static:gpu-a', '{"/home/ubuntu/localfs/training_runs": 65024, "/home/ubuntu/localfs/eval_runs": 65024, "/home/ubuntu/localfs": 65024}');
INSERT INTO hosts (name, identity, address, state, method, first_seen, last_success, error, pending_bytes) VALUES ('gpu-a', 'static:gpu-a', '127.0.0.1', 'connected', 'probe', 1.79612310229202103619e+09, 1.79612311834967374804e+09, '', 3976);
INSERT INTO pins (identity, key, first_used) VALUES ('static:gpu-a', 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJNrOe3FLkVHVZYyko+ICTXubOhBdkJ+Sfu72QNCzVhY', 1.79612310208785748476e+09);
INSERT INTO experiments (id, directory, name, created, moved_to, aliases, gone, renaming) VALUES ('b6505a15db664d479e2bf73388975f14', 'gns_test_2025-08-20_qwen2_5_1_5b_h100_8steps', '{"experiment_name": {"value": "gns_test", "source": "config.yaml gns_probe.enabled"}, "date": {"value": "2025-08-20", "source": "run directory"}, "model": {"value": "qwen2_5_1_5b", "source": "config.yaml backbone"}, "hardware": {"value": "h100", "source": "host entry gpu-a"}, "steps": {"value": "8", "source": "step_final training_info.json"}}', 1.79612310210849428172e+09, NULL, '["gns_test_2025-08-20_qwen2_5_1_5b_h100_6steps"]', 0, NULL);
INSERT INTO experiments (id, directory, name, created, moved_to, aliases, gone, renaming) VALUES ('ed9076dcba51492cb4c04db63a0d3e73', 'my best run', '{"experiment_name": {"value": "gns_test", "source": "config.yaml gns_probe.enabled"}, "date": {"value": "2025-08-21", "source": "run directory"}, "model": {"value": "qwen2_5_1_5b", "source": "config.yaml backbone"}, "hardware": {"value": "h100", "source": "host entry gpu-a"}, "steps": {"value": "6", "source": "config.yaml total_steps (provisional)"}}', 1.79612310211062145234e+09, 'my best run', '["gns_test_2025-08-21_qwen2_5_1_5b_h100_6steps"]', 0, NULL);
INSERT INTO experiments (id, directory, name, created, moved_to, aliases, gone, renaming) VALUES ('10347fefb8e2465c8d15c57f9df71a3d', 'ablation_2025-08-22_qwen2_5_1_5b_h100_6steps', '{"experiment_name": {"value": "ablation", "source": "harvestd name"}, "date": {"value": "2025-08-22", "source": "run directory"}, "model": {"value": "qwen2_5_1_5b", "source": "config.yaml backbone"}, "hardware": {"value": "h100", "source": "host entry gpu-a"}, "steps": {"value": "6", "source": "config.yaml total_steps (provisional)"}}', 1.79612310211176371571e+09, NULL, '["gns_test_2025-08-22_qwen2_5_1_5b_h100_6steps"]', 0, NULL);
INSERT INTO experiments (id, directory, name, created, moved_to, aliases, gone, renaming) VALUES ('acb7b55af8e04c7eb4d049415f81a7ad', 'gns_test_2025-08-23_qwen2_5_1_5b_h100_6steps', '{"experiment_name": {"value": "gns_test", "source": "config.yaml gns_probe.enabled"}, "date": {"value": "2025-08-23", "source": "run directory"}, "model": {"value": "qwen2_5_1_5b", "source": "config.yaml backbone"}, "hardware": {"value": "h100", "source": "host entry gpu-a"}, "steps": {"value": "6", "source": "config.yaml total_steps (provisional)"}}', 1.7961231021127388477e+09, NULL, '[]', 1, NULL);
INSERT INTO runs (id, storage, place, host, name, experiment, facts, step, seconds_left) VALUES ('4111e27cee074bfc9e34b7a95b195db4', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-20_03-31-43', 'gpu-a', 'run_2025-08-20_03-31-43', 'b6505a15db664d479e2bf73388975f14', '{"config": {"backbone": "Qwen/Qwen2.5-1.5B", "eval_backbone": "qwen2_5_15", "total_steps": 6, "dataset": "gsm8k", "gns_probe": true}, "config_version": {"size": 678, "mtime_ns": 1796123101557398975, "ctime_ns": 1796123101557398975, "inode": 1483066}, "final": {"step": 8, "backbone": "Qwen/Qwen2.5-1.5B", "world_size": 1}, "final_version": {"size": 1201, "mtime_ns": 1796123102636157697, "ctime_ns": 1796123102636157697, "inode": 1483225}, "tunings": [{"backbone": "qwen2_5_15", "dataset": "gsm8k"}], "config_hash": "dd22048f4e27a633bd68c1966f25f0d5c97c5734af3ff5cd5a2c613b12a5730d", "head": "d8f05aa514c372b9370e87b94130fe023c1cb31bc2f160ad81ec5b4e6bb27128", "base_model": null, "writer": "192-222-52-195"}', 8, 0.0);
INSERT INTO runs (id, storage, place, host, name, experiment, facts, step, seconds_left) VALUES ('8c358b0d841146589623d679759f02a7', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-21_03-31-43', 'gpu-a', 'run_2025-08-21_03-31-43', 'ed9076dcba51492cb4c04db63a0d3e73', '{"config": {"backbone": "Qwen/Qwen2.5-1.5B", "eval_backbone": "qwen2_5_15", "total_steps": 6, "dataset": "gsm8k", "gns_probe": true}, "config_version": {"size": 678, "mtime_ns": 1796123101585937991, "ctime_ns": 1796123101585937991, "inode": 1483091}, "final": null, "final_version": null, "tunings": [{"backbone": "qwen2_5_15", "dataset": "gsm8k"}], "config_hash": "dd22048f4e27a633bd68c1966f25f0d5c97c5734af3ff5cd5a2c613b12a5730d", "head": "2b6a92f1935c81f821296d0c73f927173997897e8eb9a595ff5df8b8c41136fe", "base_model": null, "writer": "192-222-52-195"}', 4, NULL);
INSERT INTO runs (id, storage, place, host, name, experiment, facts, step, seconds_left) VALUES ('ae93651cc3f24a318c0d81545de0d527', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-22_03-31-43', 'gpu-a', 'run_2025-08-22_03-31-43', '10347fefb8e2465c8d15c57f9df71a3d', '{"config": {"backbone": "Qwen/Qwen2.5-1.5B", "eval_backbone": "qwen2_5_15", "total_steps": 6, "dataset": "gsm8k", "gns_probe": true}, "config_version": {"size": 678, "mtime_ns": 1796123101640039659, "ctime_ns": 1796123101640039659, "inode": 1483115}, "final": null, "final_version": null, "tunings": [{"backbone": "qwen2_5_15", "dataset": "gsm8k"}], "config_hash": "dd22048f4e27a633bd68c1966f25f0d5c97c5734af3ff5cd5a2c613b12a5730d", "head": "e743a6466fc6b72074614e4aa5f9f1484c23666358bf963ae159466135646511", "base_model": null, "writer": "192-222-52-195"}', 4, NULL);
INSERT INTO runs (id, storage, place, host, name, experiment, facts, step, seconds_left) VALUES ('4c0dccd0c2eb4997a6e5c84d02cdc294', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-23_03-31-43', 'gpu-a', 'run_2025-08-23_03-31-43', 'acb7b55af8e04c7eb4d049415f81a7ad', '{"config": {"backbone": "Qwen/Qwen2.5-1.5B", "eval_backbone": "qwen2_5_15", "total_steps": 6, "dataset": "gsm8k", "gns_probe": true}, "config_version": {"size": 678, "mtime_ns": 1796123101643508753, "ctime_ns": 1796123101643508753, "inode": 1483139}, "final": null, "final_version": null, "tunings": [{"backbone": "qwen2_5_15", "dataset": "gsm8k"}], "config_hash": "dd22048f4e27a633bd68c1966f25f0d5c97c5734af3ff5cd5a2c613b12a5730d", "head": "8b810fd9546d7bdd2b6de1e1f186c744ccc28089435bfdae43188f17bc58bdc7", "base_model": null, "writer": "192-222-52-195"}', 4, NULL);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('_unfiled/gpu-a/eval_runs/run_2025-08-28_03-31-43_gsm8k_r1_template/qwen2_5_15_gsm8k_finetuned/step_2_gsm8k_r1_template/temp0.7_p1.0_r8/metrics.csv', 'static:gpu-a', '/home/ubuntu/localfs/eval_runs/run_2025-08-28_03-31-43_gsm8k_r1_template/qwen2_5_15_gsm8k_finetuned/step_2_gsm8k_r1_template/temp0.7_p1.0_r8/metrics.csv', 'gpu-a', NULL, 'metrics', 276, 1796123101646524681, 1796123101646524681, 1483170, 276, '0f439197b36fb3a3114a900cea829a789ae4e118533302f75dc5349d76657a38', 1.79612310212517762185e+09, 'metrics is always wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('_unfiled/gpu-a/eval_runs/run_2025-08-28_03-31-43_gsm8k_r1_template/qwen2_5_15_gsm8k_finetuned/step_2_gsm8k_r1_template/temp0.7_p1.0_r8/run_meta.json', 'static:gpu-a', '/home/ubuntu/localfs/eval_runs/run_2025-08-28_03-31-43_gsm8k_r1_template/qwen2_5_15_gsm8k_finetuned/step_2_gsm8k_r1_template/temp0.7_p1.0_r8/run_meta.json', 'gpu-a', NULL, 'run_meta', 283, 1796123101646563960, 1796123101646563960, 1483171, 283, '94e7e173ef18c5fe29edeb6daf58f42ada9ec5af1f203e950d885c1ec46b82d4', 1.79612310212517762185e+09, 'run_meta is always wanted', 1);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('gns_test_2025-08-20_qwen2_5_1_5b_h100_8steps/training_run/config.yaml', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-20_03-31-43/config.yaml', 'gpu-a', 'b6505a15db664d479e2bf73388975f14', 'config', 678, 1796123101557398975, 1796123101557398975, 1483066, 678, 'dd22048f4e27a633bd68c1966f25f0d5c97c5734af3ff5cd5a2c613b12a5730d', 1.79612310212517762185e+09, 'config is always wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('gns_test_2025-08-20_qwen2_5_1_5b_h100_8steps/base_eval/temp0.7_p1.0_r8/metrics.csv', 'static:gpu-a', '/home/ubuntu/localfs/eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_full_gsm8k_r1_template/temp0.7_p1.0_r8/metrics.csv', 'gpu-a', 'b6505a15db664d479e2bf73388975f14', 'metrics', 273, 1796123101646133217, 1796123101646133217, 1483163, 273, '00f9414fe0a606799f7c830e486f46da56e4be14e6c47cdb1f5badb9106cbd30', 1.79612310212517762185e+09, 'metrics is always wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('gns_test_2025-08-20_qwen2_5_1_5b_h100_8steps/base_eval/temp0.7_p1.0_r8/run_meta.json', 'static:gpu-a', '/home/ubuntu/localfs/eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_full_gsm8k_r1_template/temp0.7_p1.0_r8/run_meta.json', 'gpu-a', 'b6505a15db664d479e2bf73388975f14', 'run_meta', 259, 1796123101646174028, 1796123101646174028, 1483164, 259, 'e4b48846228af61f8bbaedcdbaa288d9bd1dfce6c92bb668c4b15fd4ace67abe', 1.79612310212517762185e+09, 'run_meta is always wanted', 1);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('gns_test_2025-08-20_qwen2_5_1_5b_h100_8steps/eval_results/run_2025-08-20_03-31-43_gsm8k_r1_template/eval_config.yaml', 'static:gpu-a', '/home/ubuntu/localfs/eval_runs/run_2025-08-20_03-31-43_gsm8k_r1_template/eval_config.yaml', 'gpu-a', 'b6505a15db664d479e2bf73388975f14', 'eval_config', 292, 1796123101584466105, 1796123101584466105, 1483080, 292, '06c285ffdb8e5fc8ff760d153847e59f92187ae96edf74a011ed106f582f9645', 1.79612310212517762185e+09, 'eval_config is always wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('gns_test_2025-08-20_qwen2_5_1_5b_h100_8steps/eval_results/run_2025-08-20_03-31-43_gsm8k_r1_template/qwen2_5_15_gsm8k_finetuned/step_2_gsm8k_r1_template/temp0.7_p1.0_r8/metrics.csv', 'static:gpu-a', '/home/ubuntu/localfs/eval_runs/run_2025-08-20_03-31-43_gsm8k_r1_template/qwen2_5_15_gsm8k_finetuned/step_2_gsm8k_r1_template/temp0.7_p1.0_r8/metrics.csv', 'gpu-a', 'b6505a15db664d479e2bf73388975f14', 'metrics', 276, 1796123101584981264, 1796123101584981264, 1483085, 276, 'abfccea738b84b1e30aebd2e353ed01ec76b80b092c23a112463adeb8f03d69c', 1.79612310212517762185e+09, 'metrics is always wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('gns_test_2025-08-20_qwen2_5_1_5b_h100_8steps/eval_results/run_2025-08-20_03-31-43_gsm8k_r1_template/qwen2_5_15_gsm8k_finetuned/step_2_gsm8k_r1_template/temp0.7_p1.0_r8/run_meta.json', 'static:gpu-a', '/home/ubuntu/localfs/eval_runs/run_2025-08-20_03-31-43_gsm8k_r1_template/qwen2_5_15_gsm8k_finetuned/step_2_gsm8k_r1_template/temp0.7_p1.0_r8/run_meta.json', 'gpu-a', 'b6505a15db664d479e2bf73388975f14', 'run_meta', 283, 1796123101585040732, 1796123101585040732, 1483086, 283, '770d17ed6d7a6ad06753887334818ae6cc94007f55923a0232ea05686685a922', 1.79612310212517762185e+09, 'run_meta is always wanted', 1);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('gns_test_2025-08-20_qwen2_5_1_5b_h100_8steps/training_run/logs/train_log.jsonl', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-20_03-31-43/logs/train_log.jsonl', 'gpu-a', 'b6505a15db664d479e2bf73388975f14', 'train_log', 3693, 1796123102633316483, 1796123102633316483, 1483068, 3693, 'f3399bc5de297254d5a4d0e9fd33f56fd2bc7d150a810573a32707068f527621', 1.79612310285381364819e+09, 'train_log is always wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('gns_test_2025-08-20_qwen2_5_1_5b_h100_8steps/training_run/tensorboard/events.out.tfevents.1755660703.192-222-52-195.2532.0', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-20_03-31-43/tensorboard/events.out.tfevents.1755660703.192-222-52-195.2532.0', 'gpu-a', 'b6505a15db664d479e2bf73388975f14', 'tensorboard', 8189, 1796123102635299758, 1796123102635299758, 1483067, 8189, '28e3760340cc73ab7155d3d4a8b19e917c5047175c60f6eddf10fc3605718eac', 1.79612310285813069348e+09, 'tensorboard is always wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES (X'676E735F746573745F323032352D30382D32305F7177656E325F355F315F35625F683130305F3873746570732F747261696E696E675F72756E2F747261696E696E675F73746174652F737465705F66696E616C2F636166E92E62696E', 'static:gpu-a', X'2F686F6D652F7562756E74752F6C6F63616C66732F747261696E696E675F72756E732F72756E5F323032352D30382D32305F30332D33312D34332F747261696E696E675F73746174652F737465705F66696E616C2F636166E92E62696E', 'gpu-a', 'b6505a15db664d479e2bf73388975f14', 'checkpoint', 3, 1796123102635997038, 1796123102635997038, 1483223, 3, '990cb8ebd0afb7150da453a213036a92f2c05e091df0d803e62d257ea7796c27', 1.79612310285131072992e+09, 'step_final is wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('gns_test_2025-08-20_qwen2_5_1_5b_h100_8steps/training_run/training_state/step_final/model/README.md', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-20_03-31-43/training_state/step_final/model/README.md', 'gpu-a', 'b6505a15db664d479e2bf73388975f14', 'checkpoint', 84, 1796123102635501418, 1796123102635501418, 1483218, 84, '249b46a8a142b8bd78d96789240b44f921b8d1af3e27a8f15a3b3f475ea05100', 1.79612310285131072992e+09, 'step_final is wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('gns_test_2025-08-20_qwen2_5_1_5b_h100_8steps/training_run/training_state/step_final/model/adapter_config.json', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-20_03-31-43/training_state/step_final/model/adapter_config.json', 'gpu-a', 'b6505a15db664d479e2bf73388975f14', 'checkpoint', 231, 1796123102635576931, 1796123102635576931, 1483219, 231, 'e380ff6b3b596bc2388e8932a8593197d29892e77df62674496e9ee6e7ceea31', 1.79612310285131072992e+09, 'step_final is wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('gns_test_2025-08-20_qwen2_5_1_5b_h100_8steps/training_run/training_state/step_final/model/adapter_model.safetensors', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-20_03-31-43/training_state/step_final/model/adapter_model.safetensors', 'gpu-a', 'b6505a15db664d479e2bf73388975f14', 'checkpoint', 856, 1796123102635634948, 1796123102635634948, 1483220, 856, '3d7accd228bc6e8b19e0d557836a96653207c8a07db7d3da47b40baac1837126', 1.79612310285131072992e+09, 'step_final is wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES (X'676E735F746573745F323032352D30382D32305F7177656E325F355F315F35625F683130305F3873746570732F747261696E696E675F72756E2F747261696E696E675F73746174652F737465705F66696E616C2F6D6F64656C2F6E61EF76652E6A736F6E', 'static:gpu-a', X'2F686F6D652F7562756E74752F6C6F63616C66732F747261696E696E675F72756E732F72756E5F323032352D30382D32305F30332D33312D34332F747261696E696E675F73746174652F737465705F66696E616C2F6D6F64656C2F6E61EF76652E6A736F6E', 'gpu-a', 'b6505a15db664d479e2bf73388975f14', 'checkpoint', 2, 1796123102636026321, 1796123102636026321, 1483224, 2, '44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a', 1.79612310285131072992e+09, 'step_final is wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('gns_test_2025-08-20_qwen2_5_1_5b_h100_8steps/training_run/training_state/step_final/optimizer.pt', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-20_03-31-43/training_state/step_final/optimizer.pt', 'gpu-a', 'b6505a15db664d479e2bf73388975f14', 'checkpoint', 2056, 1796123102635817490, 1796123102635817490, 1483221, 2056, '560cfe24b363fbf94befb28be3bb1ad127a54248d03b88743a0ca090186b774f', 1.79612310285131072992e+09, 'step_final is wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('gns_test_2025-08-20_qwen2_5_1_5b_h100_8steps/training_run/training_state/step_final/scheduler.pt', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-20_03-31-43/training_state/step_final/scheduler.pt', 'gpu-a', 'b6505a15db664d479e2bf73388975f14', 'checkpoint', 749, 1796123102635960183, 1796123102635960183, 1483222, 749, 'd9b1352131c05d826f6377d7febd02615dfd06ed120248e5ebfb8cdf0e2be0ae', 1.79612310285131072992e+09, 'step_final is wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('gns_test_2025-08-20_qwen2_5_1_5b_h100_8steps/training_run/training_state/step_final/training_info.json', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-20_03-31-43/training_state/step_final/training_info.json', 'gpu-a', 'b6505a15db664d479e2bf73388975f14', 'checkpoint', 1201, 1796123102636157697, 1796123102636157697, 1483225, 1201, 'c2d499dee04a3a1086fc9acd546661763322fd183ab67d6e684e3637a57429fe', 1.79612310285131072992e+09, 'step_final is wanted', 1);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('my best run/training_run/logs/train_log.jsonl', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-21_03-31-43/logs/train_log.jsonl', 'gpu-a', 'ed9076dcba51492cb4c04db63a0d3e73', 'train_log', 1457, 1796123101598492886, 1796123101598492886, 1483093, 1457, '0ee11d9b3dba335305818cf78b8df56cedea7cd2f968cade369db042f495cba8', 1.7961231021565675736e+09, 'train_log is always wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('my best run/training_run/config.yaml', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-21_03-31-43/config.yaml', 'gpu-a', 'ed9076dcba51492cb4c04db63a0d3e73', 'config', 678, 1796123101585937991, 1796123101585937991, 1483091, 678, 'dd22048f4e27a633bd68c1966f25f0d5c97c5734af3ff5cd5a2c613b12a5730d', 1.79612310212517762185e+09, 'config is always wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('my best run/base_eval/temp0.7_p1.0_r8/metrics.csv', 'static:gpu-a', '/home/ubuntu/localfs/eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_full_gsm8k_r1_template/temp0.7_p1.0_r8/metrics.csv', 'gpu-a', 'ed9076dcba51492cb4c04db63a0d3e73', 'metrics', 273, 1796123101646133217, 1796123101646133217, 1483163, 273, '00f9414fe0a606799f7c830e486f46da56e4be14e6c47cdb1f5badb9106cbd30', 1.79612310212517762185e+09, 'metrics is always wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('my best run/base_eval/temp0.7_p1.0_r8/run_meta.json', 'static:gpu-a', '/home/ubuntu/localfs/eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_full_gsm8k_r1_template/temp0.7_p1.0_r8/run_meta.json', 'gpu-a', 'ed9076dcba51492cb4c04db63a0d3e73', 'run_meta', 259, 1796123101646174028, 1796123101646174028, 1483164, 259, 'e4b48846228af61f8bbaedcdbaa288d9bd1dfce6c92bb668c4b15fd4ace67abe', 1.79612310212517762185e+09, 'run_meta is always wanted', 1);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('my best run/eval_results/run_2025-08-21_03-31-43_gsm8k_r1_template/qwen2_5_15_gsm8k_finetuned/step_2_gsm8k_r1_template/temp0.7_p1.0_r8/metrics.csv', 'static:gpu-a', '/home/ubuntu/localfs/eval_runs/run_2025-08-21_03-31-43_gsm8k_r1_template/qwen2_5_15_gsm8k_finetuned/step_2_gsm8k_r1_template/temp0.7_p1.0_r8/metrics.csv', 'gpu-a', 'ed9076dcba51492cb4c04db63a0d3e73', 'metrics', 341, 1796123104875947722, 1796123104875947722, 1483109, 341, 'eb04facf70e684732196e4a3ffd0b8cbf4e34a7ca0bb1ff3c4fc32dad6961fd6', 1.79612310638041234017e+09, 'metrics is always wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('my best run/eval_results/run_2025-08-21_03-31-43_gsm8k_r1_template/qwen2_5_15_gsm8k_finetuned/step_2_gsm8k_r1_template/temp0.7_p1.0_r8/run_meta.json', 'static:gpu-a', '/home/ubuntu/localfs/eval_runs/run_2025-08-21_03-31-43_gsm8k_r1_template/qwen2_5_15_gsm8k_finetuned/step_2_gsm8k_r1_template/temp0.7_p1.0_r8/run_meta.json', 'gpu-a', 'ed9076dcba51492cb4c04db63a0d3e73', 'run_meta', 283, 1796123104876050425, 1796123104876050425, 1483110, 283, 'fe6fe4ee31d2c1ba7dff0256023c25276c552831792def7c180d652cd681e14c', 1.79612310638041234017e+09, 'run_meta is always wanted', 1);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('my best run/training_run/tensorboard/events.out.tfevents.1755747103.192-222-52-195.2193.0', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-21_03-31-43/tensorboard/events.out.tfevents.1755747103.192-222-52-195.2193.0', 'gpu-a', 'ed9076dcba51492cb4c04db63a0d3e73', 'tensorboard', 3309, 1796123101604343729, 1796123101604343729, 1483092, 3309, '2adf1f4ac068e491621b70a94aa37549cbb4d0504cfebc3a9e19b27f771ec610', 1.79612310219410562517e+09, 'tensorboard is always wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('my best run/eval_results/run_2025-08-21_03-31-43_gsm8k_r1_template/eval_config.yaml', 'static:gpu-a', '/home/ubuntu/localfs/eval_runs/run_2025-08-21_03-31-43_gsm8k_r1_template/eval_config.yaml', 'gpu-a', 'ed9076dcba51492cb4c04db63a0d3e73', 'eval_config', 292, 1796123101637621853, 1796123101637621853, 1483104, 292, '6cbe4333aead11d2088cd9042db27dfcf08b70f96da0544b170924c6f2dcd5b9', 1.79612310227110385891e+09, 'eval_config is always wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('ablation_2025-08-22_qwen2_5_1_5b_h100_6steps/base_eval/temp0.7_p1.0_r8/metrics.csv', 'static:gpu-a', '/home/ubuntu/localfs/eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_full_gsm8k_r1_template/temp0.7_p1.0_r8/metrics.csv', 'gpu-a', '10347fefb8e2465c8d15c57f9df71a3d', 'metrics', 273, 1796123101646133217, 1796123101646133217, 1483163, 273, '00f9414fe0a606799f7c830e486f46da56e4be14e6c47cdb1f5badb9106cbd30', 1.79612310212517762185e+09, 'metrics is always wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('ablation_2025-08-22_qwen2_5_1_5b_h100_6steps/base_eval/temp0.7_p1.0_r8/run_meta.json', 'static:gpu-a', '/home/ubuntu/localfs/eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_full_gsm8k_r1_template/temp0.7_p1.0_r8/run_meta.json', 'gpu-a', '10347fefb8e2465c8d15c57f9df71a3d', 'run_meta', 259, 1796123101646174028, 1796123101646174028, 1483164, 259, 'e4b48846228af61f8bbaedcdbaa288d9bd1dfce6c92bb668c4b15fd4ace67abe', 1.79612310212517762185e+09, 'run_meta is always wanted', 1);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('ablation_2025-08-22_qwen2_5_1_5b_h100_6steps/eval_results/run_2025-08-22_03-31-43_gsm8k_r1_template/qwen2_5_15_gsm8k_finetuned/step_2_gsm8k_r1_template/temp0.7_p1.0_r8/metrics.csv', 'static:gpu-a', '/home/ubuntu/localfs/eval_runs/run_2025-08-22_03-31-43_gsm8k_r1_template/qwen2_5_15_gsm8k_finetuned/step_2_gsm8k_r1_template/temp0.7_p1.0_r8/metrics.csv', 'gpu-a', '10347fefb8e2465c8d15c57f9df71a3d', 'metrics', 274, 1796123101642521661, 1796123101642521661, 1483133, 274, '0078353a1a71596c968d4b50151f66954853de34b778a01d40a90fb1e98d1e86', 1.79612310212517762185e+09, 'metrics is always wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('ablation_2025-08-22_qwen2_5_1_5b_h100_6steps/eval_results/run_2025-08-22_03-31-43_gsm8k_r1_template/qwen2_5_15_gsm8k_finetuned/step_2_gsm8k_r1_template/temp0.7_p1.0_r8/run_meta.json', 'static:gpu-a', '/home/ubuntu/localfs/eval_runs/run_2025-08-22_03-31-43_gsm8k_r1_template/qwen2_5_15_gsm8k_finetuned/step_2_gsm8k_r1_template/temp0.7_p1.0_r8/run_meta.json', 'gpu-a', '10347fefb8e2465c8d15c57f9df71a3d', 'run_meta', 283, 1796123101642562455, 1796123101642562455, 1483134, 283, '26abfbd0f303f2948488e98c58131b0013a1ce5d9c574bfd23cbf407fd2b39f1', 1.79612310212517762185e+09, 'run_meta is always wanted', 1);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('ablation_2025-08-22_qwen2_5_1_5b_h100_6steps/training_run/logs/train_log.jsonl', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-22_03-31-43/logs/train_log.jsonl', 'gpu-a', '10347fefb8e2465c8d15c57f9df71a3d', 'train_log', 1456, 1796123101640910758, 1796123101640910758, 1483117, 1456, '9b5c1d37947f5385994c4ba660b190474f9af2d88fcea1d9773acd2077717bf7', 1.796123102165132761e+09, 'train_log is always wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('ablation_2025-08-22_qwen2_5_1_5b_h100_6steps/training_run/tensorboard/events.out.tfevents.1755833503.192-222-52-195.2851.0', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-22_03-31-43/tensorboard/events.out.tfevents.1755833503.192-222-52-195.2851.0', 'gpu-a', '10347fefb8e2465c8d15c57f9df71a3d', 'tensorboard', 3309, 1796123101641209934, 1796123101641209934, 1483116, 3309, '06985aa6243b314a865fbd9a59d0e4ecaf1ccc7c86e28039ca1e852902baf2bc', 1.79612310220361471183e+09, 'tensorboard is always wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('ablation_2025-08-22_qwen2_5_1_5b_h100_6steps/training_run/config.yaml', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-22_03-31-43/config.yaml', 'gpu-a', '10347fefb8e2465c8d15c57f9df71a3d', 'config', 678, 1796123101640039659, 1796123101640039659, 1483115, 678, 'dd22048f4e27a633bd68c1966f25f0d5c97c5734af3ff5cd5a2c613b12a5730d', 1.79612310227110385891e+09, 'config is always wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('ablation_2025-08-22_qwen2_5_1_5b_h100_6steps/eval_results/run_2025-08-22_03-31-43_gsm8k_r1_template/eval_config.yaml', 'static:gpu-a', '/home/ubuntu/localfs/eval_runs/run_2025-08-22_03-31-43_gsm8k_r1_template/eval_config.yaml', 'gpu-a', '10347fefb8e2465c8d15c57f9df71a3d', 'eval_config', 292, 1796123101642121213, 1796123101642121213, 1483128, 292, '15c330f4d906ca2afe5dd1dfc5989cf21db23393ac6b40e68172933ca7666ccf', 1.79612310227110385891e+09, 'eval_config is always wanted', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('my best run/training_run/training_state/step_2/model/README.md', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-21_03-31-43/training_state/step_2/model/README.md', 'gpu-a', 'ed9076dcba51492cb4c04db63a0d3e73', 'checkpoint', 84, 1796123101606056227, 1796123101606056227, 1483096, 84, '249b46a8a142b8bd78d96789240b44f921b8d1af3e27a8f15a3b3f475ea05100', 1.79612311024171209328e+09, 'asked for by hand on 2026-12-01', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('my best run/training_run/training_state/step_2/model/adapter_config.json', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-21_03-31-43/training_state/step_2/model/adapter_config.json', 'gpu-a', 'ed9076dcba51492cb4c04db63a0d3e73', 'checkpoint', 231, 1796123101606132721, 1796123101606132721, 1483097, 231, 'e380ff6b3b596bc2388e8932a8593197d29892e77df62674496e9ee6e7ceea31', 1.79612311024171209328e+09, 'asked for by hand on 2026-12-01', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('my best run/training_run/training_state/step_2/model/adapter_model.safetensors', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-21_03-31-43/training_state/step_2/model/adapter_model.safetensors', 'gpu-a', 'ed9076dcba51492cb4c04db63a0d3e73', 'checkpoint', 856, 1796123101606209896, 1796123101606209896, 1483098, 856, '5d55a359a8d552db1a40bfc15799e8ee1046decb86b5db46b755d27a142c0e3b', 1.79612311024171209328e+09, 'asked for by hand on 2026-12-01', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('my best run/training_run/training_state/step_2/optimizer.pt', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-21_03-31-43/training_state/step_2/optimizer.pt', 'gpu-a', 'ed9076dcba51492cb4c04db63a0d3e73', 'checkpoint', 2056, 1796123101606394892, 1796123101606394892, 1483099, 2056, 'cb63c3720211230d10c1c226d611c0a22a4e8a8d1262c1a506b9dfddd504fdf1', 1.79612311024171209328e+09, 'asked for by hand on 2026-12-01', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('my best run/training_run/training_state/step_2/scheduler.pt', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-21_03-31-43/training_state/step_2/scheduler.pt', 'gpu-a', 'ed9076dcba51492cb4c04db63a0d3e73', 'checkpoint', 749, 1796123101606482643, 1796123101606482643, 1483100, 749, '0aaf7b75b90185254407d4e3919cc80aec69fde953ce5f3b6210eba75edd4aaa', 1.79612311024171209328e+09, 'asked for by hand on 2026-12-01', 0);
INSERT INTO files (target, storage, place, host, experiment, kind, remote_size, mtime_ns, ctime_ns, inode, size, sha256, fetched_at, reason, marker) VALUES ('my best run/training_run/training_state/step_2/training_info.json', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-21_03-31-43/training_state/step_2/training_info.json', 'gpu-a', 'ed9076dcba51492cb4c04db63a0d3e73', 'checkpoint', 1201, 1796123101606585336, 1796123101606585336, 1483101, 1201, '791c5a5206520d9853a273d520f8cf2c1125128bab733c84b63c3f3764ebb4c3', 1.79612311024171209328e+09, 'asked for by hand on 2026-12-01', 1);
INSERT INTO links (path, target) VALUES ('gns_test_2025-08-20_qwen2_5_1_5b_h100_8steps/training_run/training_state/step_latest', 'step_final');
INSERT INTO links (path, target) VALUES ('my best run/training_run/training_state/step_latest', 'step_2');
INSERT INTO eval_configs (storage, place, version, training_run) VALUES ('static:gpu-a', '/home/ubuntu/localfs/eval_runs/run_2025-08-20_03-31-43_gsm8k_r1_template/eval_config.yaml', '{"size": 292, "mtime_ns": 1796123101584466105, "ctime_ns": 1796123101584466105, "inode": 1483080}', 'run_2025-08-20_03-31-43');
INSERT INTO eval_configs (storage, place, version, training_run) VALUES ('static:gpu-a', '/home/ubuntu/localfs/eval_runs/run_2025-08-21_03-31-43_gsm8k_r1_template/eval_config.yaml', '{"size": 292, "mtime_ns": 1796123101637621853, "ctime_ns": 1796123101637621853, "inode": 1483104}', 'run_2025-08-21_03-31-43');
INSERT INTO eval_configs (storage, place, version, training_run) VALUES ('static:gpu-a', '/home/ubuntu/localfs/eval_runs/run_2025-08-22_03-31-43_gsm8k_r1_template/eval_config.yaml', '{"size": 292, "mtime_ns": 1796123101642121213, "ctime_ns": 1796123101642121213, "inode": 1483128}', 'run_2025-08-22_03-31-43');
INSERT INTO eval_configs (storage, place, version, training_run) VALUES ('static:gpu-a', '/home/ubuntu/localfs/eval_runs/run_2025-08-23_03-31-43_gsm8k_r1_template/eval_config.yaml', '{"size": 292, "mtime_ns": 1796123101645348917, "ctime_ns": 1796123101645348917, "inode": 1483152}', 'run_2025-08-23_03-31-43');
INSERT INTO requests (id, asked_at, kind, storage, place, detail, taken_at, settled_at, outcome) VALUES (1, 1.79612310417975687979e+09, 'name', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-22_03-31-43', '{"experiment": "10347fefb8e2465c8d15c57f9df71a3d", "name": "ablation"}', 1.79612310458341860775e+09, 1.79612310460509586335e+09, 'ablation_2025-08-22_qwen2_5_1_5b_h100_6steps now');
INSERT INTO requests (id, asked_at, kind, storage, place, detail, taken_at, settled_at, outcome) VALUES (2, 1.79612310589455652235e+09, 'ignore', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-22_03-31-43', '{}', 1.79612310599722075458e+09, 1.79612310600517606734e+09, 'nothing more of it is fetched');
INSERT INTO requests (id, asked_at, kind, storage, place, detail, taken_at, settled_at, outcome) VALUES (3, 1.79612310972008228301e+09, 'fetch', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-21_03-31-43', '{"thing": "step_2"}', 1.79612311021698832511e+09, 1.79612311039426898956e+09, '6 files are here');
INSERT INTO requests (id, asked_at, kind, storage, place, detail, taken_at, settled_at, outcome) VALUES (4, 1.79612311292675662041e+09, 'judge', 'static:gpu-a', 'gpu-a', '{}', 1.79612311326339197164e+09, 1.79612311643502521509e+09, 'not_safe');
INSERT INTO requests (id, asked_at, kind, storage, place, detail, taken_at, settled_at, outcome) VALUES (5, 1.79612311788900971408e+09, 'fetch', 'static:gpu-a', '/home/ubuntu/localfs/training_runs/run_2025-08-21_03-31-43', '{"thing": "step_4"}', 1.79612311833051872256e+09, NULL, '');
INSERT INTO verdicts (identity, name, verdict, judged_at, idle_since, cents_per_hour) VALUES ('static:gpu-a', 'gpu-a', '{"answer": "not_safe", "safe": false, "reasons": [{"kind": "asked_for", "detail": "step_4 of /home/ubuntu/localfs/training_runs/run_2025-08-21_03-31-43 was asked for by hand and is not here yet", "bytes": null, "seconds": null}, {"kind": "waiting", "detail": "/home/ubuntu/localfs/training_runs/run_2025-08-21_03-31-43/training_state/step_4: its marker training_info.json is not there yet", "bytes": 3976, "seconds": null}, {"kind": "running", "detail": "/home/ubuntu/localfs/training_runs/run_2025-08-21_03-31-43 (and 2 more) is not known to have ended", "bytes": null, "seconds": 896.376521217}, {"kind": "not_quiet", "detail": "nothing moved for 4 s only", "bytes": null, "seconds": 896.414868544}, {"kind": "not_looked_at", "detail": "no whole look was made for this", "bytes": null, "seconds": 0.0}], "losses": [], "survives": [], "accepted": [], "bytes_outstanding": 3976, "seconds_left": null}', 1.79612312026791810988e+09, NULL, NULL);
INSERT INTO left_out (id, host, experiment, place, size, entries, reason) VALUES (11, 'gpu-a', NULL, '/home/ubuntu/localfs/eval_runs/run_2025-08-28_03-31-43_gsm8k_r1_template/qwen2_5_15_gsm8k_finetuned/step_2_gsm8k_r1_template/temp0.7_p1.0_r8/records.jsonl.gz', 321, 1, 'rule: select.records = false');
INSERT INTO left_out (id, host, experiment, place, size, entries, reason) VALUES (14, 'gpu-a', 'acb7b55af8e04c7eb4d049415f81a7ad', '/home/ubuntu/localfs/training_runs/run_2025-08-23_03-31-43', 10617, 10, 'its experiment''s directory was taken away here');
INSERT INTO left_out (id, host, experiment, place, size, entries, reason) VALUES (15, 'gpu-a', 'acb7b55af8e04c7eb4d049415f81a7ad', '/home/ubuntu/localfs/eval_runs/run_2025-08-23_03-31-43_gsm8k_r1_template', 1175, 4, 'its experiment''s directory was taken away here');
INSERT INTO left_out (id, host, experiment, place, size, entries, reason) VALUES (19, 'gpu-a', '10347fefb8e2465c8d15c57f9df71a3d', '/home/ubuntu/localfs/training_runs/run_2025-08-22_03-31-43', 5177, 7, 'asked: ignored by hand on 2026-12-01');
INSERT INTO left_out (id, host, experiment, place, size, entries, reason) VALUES (20, 'gpu-a', '10347fefb8e2465c8d15c57f9df71a3d', '/home/ubuntu/localfs/eval_runs/run_2025-08-22_03-31-43_gsm8k_r1_template', 322, 1, 'asked: ignored by hand on 2026-12-01');
INSERT INTO left_out (id, host, experiment, place, size, entries, reason) VALUES (21, 'gpu-a', 'b6505a15db664d479e2bf73388975f14', '/home/ubuntu/localfs/training_runs/run_2025-08-20_03-31-43/training_state/step_2', 5177, 6, 'rule: select.checkpoint = "final"');
INSERT INTO left_out (id, host, experiment, place, size, entries, reason) VALUES (22, 'gpu-a', 'b6505a15db664d479e2bf73388975f14', '/home/ubuntu/localfs/eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_full_gsm8k_r1_template/temp0.7_p1.0_r8/records.jsonl.gz', 329, 1, 'rule: select.records = false');
INSERT INTO left_out (id, host, experiment, place, size, entries, reason) VALUES (23, 'gpu-a', 'b6505a15db664d479e2bf73388975f14', '/home/ubuntu/localfs/eval_runs/run_2025-08-20_03-31-43_gsm8k_r1_template/qwen2_5_15_gsm8k_finetuned/step_2_gsm8k_r1_template/temp0.7_p1.0_r8/records.jsonl.gz', 326, 1, 'rule: select.records = false');
INSERT INTO left_out (id, host, experiment, place, size, entries, reason) VALUES (24, 'gpu-a', 'ed9076dcba51492cb4c04db63a0d3e73', '/home/ubuntu/localfs/eval_runs/run_2025-08-21_03-31-43_gsm8k_r1_template/qwen2_5_15_gsm8k_finetuned/step_2_gsm8k_r1_template/temp0.7_p1.0_r8/records.jsonl.gz', 375, 1, 'rule: select.records = false');
