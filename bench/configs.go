package main

// In the configs, DIR is the folder of the fleet, LOG a file, PORT and ADMIN are
// free ports, HTTP and TFTP those of the back ends, and INVENTORY is an option. All servers are set up to do
// the same: a certificate of the device CA is required, the MAC in its subject
// decides which profile may be fetched, and each visit is logged with whose it was.

const caddyOptions = `{
	admin 127.0.0.1:ADMIN
	persist_config off
	auto_https disable_redirects
	skip_install_trust
	storage file_system "DIR/storage-NAME"
	log {
		level VERBOSITY
		output file "DIR/NAME.visits" {
			roll_disabled
		}
	}
}
`

// ourConfig is that of this plugin.
const ourConfig = caddyOptions + `
(phones) {
	bind 127.0.0.1
	tls "DIR/site.pem" "DIR/site.key"
	device_profile {
		trust polycom "DIR/device-ca.pem"
		serve /{device.mac}.cfg
		serve /firmware/*
		legacy_tls
		INVENTORY
		{block}
	}
}
https://prov.example.com:PORT {
	import phones {
		source files "DIR/profiles"
	}
}
https://http.example.com:PORT {
	import phones {
		source http http://127.0.0.1:HTTP
	}
}
https://cached-http.example.com:PORT {
	import phones {
		source http http://127.0.0.1:HTTP
		cache
	}
}
https://tftp.example.com:PORT {
	import phones {
		source tftp 127.0.0.1:TFTP
	}
}
https://cached-tftp.example.com:PORT {
	import phones {
		source tftp 127.0.0.1:TFTP
		cache
	}
}
`

// stockConfig is what Caddy can do by itself.
const stockConfig = caddyOptions + `
(phones) {
	bind 127.0.0.1
	log
	tls "DIR/site.pem" "DIR/site.key" {
		client_auth {
			mode require_and_verify
			trust_pool file "DIR/device-ca.pem"
		}
	}
	map {http.request.tls.client.subject} {mac} {
		~CN=([0-9a-f]{12}) ${1}
		default none
	}
	@own path /{mac}.cfg /firmware/*
	handle @own {
		{block}
	}
	handle {
		respond 403
	}
}
https://prov.example.com:PORT {
	import phones {
		root "DIR/profiles"
		file_server
	}
}
https://http.example.com:PORT {
	import phones {
		reverse_proxy 127.0.0.1:HTTP
	}
}
`

// floorConfig is the least that Caddy takes for a visit.
const floorConfig = caddyOptions + `
https://prov.example.com:PORT {
	bind 127.0.0.1
	tls "DIR/site.pem" "DIR/site.key" {
		client_auth {
			mode request
		}
	}
	route {
		bench_floor * "DIR/profiles"
	}
}
`

const nginxConfig = `
user root;
daemon off;
worker_processes auto;
worker_rlimit_nofile 16384;
pid DIR/nginx.pid;
error_log DIR/nginx.log;
events { worker_connections 8192; }
http {
	log_format visit '$remote_addr [$time_local] "$request" $status $body_bytes_sent "$http_user_agent" "$ssl_client_s_dn" $ssl_protocol $request_time';
	access_log DIR/nginx.visits visit;
	client_body_temp_path DIR/nginx-temp/body;
	proxy_temp_path DIR/nginx-temp/proxy;
	fastcgi_temp_path DIR/nginx-temp/fastcgi;
	uwsgi_temp_path DIR/nginx-temp/uwsgi;
	scgi_temp_path DIR/nginx-temp/scgi;
	proxy_cache_path DIR/nginx-temp/cache keys_zone=profiles:10m max_size=256m;
	sendfile on;
	tcp_nopush on;
	keepalive_requests 1000000;
	keepalive_timeout 300;
	map $ssl_client_s_dn $mac {
		default none;
		"~(^|,)CN=(?<cn>[0-9a-f]{12})(,|$)" $cn;
	}
	map "$mac.cfg$uri" $allowed {
		default 0;
		"~^(?<own>[0-9a-f]{12}\.cfg)/(?P=own)$" 1;
		"~^[0-9a-f]{12}\.cfg/firmware/" 1;
	}
	ssl_certificate DIR/site.pem;
	ssl_certificate_key DIR/site.key;
	ssl_client_certificate DIR/device-ca.pem;
	ssl_verify_client on;
	ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;
	ssl_ciphers HIGH:@SECLEVEL=0;
	ssl_session_cache shared:phones:20m;
	ssl_session_timeout 1d;
	upstream backend {
		server 127.0.0.1:HTTP;
		keepalive 32;
	}
	server {
		listen 127.0.0.1:PORT ssl backlog=4096;
		server_name prov.example.com;
		root DIR/profiles;
		if ($allowed = 0) { return 403; }
	}
	server {
		listen 127.0.0.1:PORT ssl;
		server_name http.example.com;
		if ($allowed = 0) { return 403; }
		location / {
			proxy_pass http://backend;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
		}
	}
	server {
		listen 127.0.0.1:PORT ssl;
		server_name cached-http.example.com;
		if ($allowed = 0) { return 403; }
		location / {
			proxy_pass http://backend;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_cache profiles;
			proxy_cache_valid 5m;
		}
	}
}
`

const apacheConfig = `
LoadModule mpm_event_module MODULES/mod_mpm_event.so
LoadModule authz_core_module MODULES/mod_authz_core.so
LoadModule socache_shmcb_module MODULES/mod_socache_shmcb.so
LoadModule ssl_module MODULES/mod_ssl.so
ServerRoot DIR
ServerName prov.example.com
DefaultRuntimeDir DIR
PidFile DIR/apache.pid
ErrorLog DIR/apache.log
User www-data
Group www-data
Listen 127.0.0.1:PORT
ListenBacklog 4096
ServerLimit 16
StartServers 4
ThreadsPerChild 64
MaxRequestWorkers 1024
MinSpareThreads 64
MaxSpareThreads 1024
MaxKeepAliveRequests 0
KeepAliveTimeout 300
LogFormat "%h %t \"%r\" %>s %b \"%{User-Agent}i\" \"%{SSL_CLIENT_S_DN}x\" %{SSL_PROTOCOL}x %D" visit
CustomLog DIR/apache.visits visit
SSLSessionCache shmcb:DIR/apache-sessions(20480000)
SSLSessionCacheTimeout 86400
<VirtualHost 127.0.0.1:PORT>
	DocumentRoot DIR/profiles
	SSLEngine on
	SSLCertificateFile DIR/site.pem
	SSLCertificateKeyFile DIR/site.key
	SSLCACertificateFile DIR/device-ca.pem
	SSLVerifyClient require
	SSLProtocol +TLSv1 +TLSv1.1 +TLSv1.2 +TLSv1.3
	SSLCipherSuite HIGH:@SECLEVEL=0
	<Directory DIR/profiles>
		Require expr "%{SSL_CLIENT_S_DN} =~ /CN=([0-9a-f]{12})/ && %{REQUEST_URI} == '/$1.cfg'"
		Require expr "%{REQUEST_URI} =~ m#^/firmware/#"
	</Directory>
</VirtualHost>
`
