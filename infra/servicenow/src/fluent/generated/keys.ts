import '@servicenow/sdk/global'

declare global {
    namespace Now {
        namespace Internal {
            interface Keys extends KeysRegistry {
                explicit: {
                    bom_json: {
                        table: 'sys_module'
                        id: 'd786fd535d7d433991cb48839edcd908'
                    }
                    'fill-request-id': {
                        table: 'sys_security_acl'
                        id: '8df207462db54399965cdb7d3e3aefe0'
                    }
                    'fill-stage': {
                        table: 'sys_security_acl'
                        id: '7153912854c24970ad6465fc77630ecb'
                    }
                    'fill-stage-instance-id': {
                        table: 'sys_security_acl'
                        id: 'ba11ebd3bf7c4fd89810d7094bc29a1a'
                    }
                    'fill-user-object-id': {
                        table: 'sys_security_acl'
                        id: '4888a10460f741f78ef27ad2563db1d5'
                    }
                    'job-remove-old': {
                        table: 'sysauto_script'
                        id: '0614d9d35fc0476286ef08b27faaf27a'
                    }
                    'job-send-due': {
                        table: 'sysauto_script'
                        id: '6ec62facd50143bd8ab2be3b08444bd3'
                    }
                    menu: {
                        table: 'sys_app_application'
                        id: 'dd4f3b0a10a748f5953706e82c26a9af'
                    }
                    message: {
                        table: 'sys_rest_message'
                        id: '8633a9132bfa4cd5a577b18ad2c68ddc'
                    }
                    'message-accept': {
                        table: 'sys_rest_message_headers'
                        id: 'edaf9e82d914415ebe82545ae48a16da'
                    }
                    'message-content-type': {
                        table: 'sys_rest_message_headers'
                        id: 'aa365cf6cd4b4e19833771906d7b1829'
                    }
                    'module-outbox': {
                        table: 'sys_app_module'
                        id: '80ad5304e52e476a92fff9be87fda39b'
                    }
                    'module-unheard': {
                        table: 'sys_app_module'
                        id: '281b368385d347cea4b3e951fbd5b1d7'
                    }
                    'outbox-delete': {
                        table: 'sys_security_acl'
                        id: '4a0cb606f0b14cb296b1d99abb6ea7f8'
                    }
                    'outbox-read': {
                        table: 'sys_security_acl'
                        id: 'bbf0dac2f6f846eeb7605ea64811fa63'
                    }
                    'outbox-write': {
                        table: 'sys_security_acl'
                        id: '940aa836bdde4352a7b370d251fed94e'
                    }
                    package_json: {
                        table: 'sys_module'
                        id: '33f28c084eaa4090b9854c9763a3378e'
                    }
                    'property-close-url': {
                        table: 'sys_properties'
                        id: 'e4f3dae0b2f4457ab244e4cc1edba71d'
                    }
                    'property-function-key': {
                        table: 'sys_properties'
                        id: '9442858d40a04c56a47ea207f250c8b4'
                    }
                    'property-hmac-key': {
                        table: 'sys_properties'
                        id: '53b1389565d34d458c4af173268257a3'
                    }
                    'property-keep-days': {
                        table: 'sys_properties'
                        id: 'a81324f2a56346aba77e01d210d53c8d'
                    }
                    'property-max-attempts': {
                        table: 'sys_properties'
                        id: '2eccf02e41ec412d8843cbfc242250af'
                    }
                    'property-oauth-profile': {
                        table: 'sys_properties'
                        id: '813a8af9baef44968f186139cda32984'
                    }
                    'property-proof': {
                        table: 'sys_properties'
                        id: 'bae8716eff1a4857a45f80e982422170'
                    }
                    'rule-closed': {
                        table: 'sys_script'
                        id: 'e553d21e70584263a498ed9ee66a811b'
                    }
                    'script-outbox': {
                        table: 'sys_script_include'
                        id: 'f7948b239c7d4f5fa5027ac8bfc7a127'
                    }
                    'test-outbox': {
                        table: 'sys_atf_test'
                        id: '0bdf496785774ea49bfd8f7a501218c2'
                    }
                    'test-outbox-script': {
                        table: 'sys_atf_step'
                        id: 'f6677c1a9b1d4dacaf56bdd8d7c5b5a2'
                    }
                    'test-outbox-ticket': {
                        table: 'sys_atf_step'
                        id: '2fa0490feac341dc90212bb7b9f7d395'
                    }
                }
                composite: [
                    {
                        table: 'sys_user_role'
                        id: '0244a51e2eb04ee1a98c6c80028f4971'
                        key: {
                            name: 'x_tkbr_bridge.admin'
                        }
                    },
                    {
                        table: 'sys_choice_set'
                        id: '06a3a7c5f53d4e8db7f9e1a9ad24d59e'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'state'
                        }
                    },
                    {
                        table: 'sys_dictionary'
                        id: '09cf37f39dfe4df6886dd65dce95bcc2'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'state'
                        }
                    },
                    {
                        table: 'sys_variable_value'
                        id: '0fec441ebce048d8a4077e6818261aa5'
                        key: {
                            document_key: '2fa0490feac341dc90212bb7b9f7d395'
                            variable: '90144b535320220002c6435723dc3488'
                        }
                    },
                    {
                        table: 'sys_dictionary'
                        id: '122d2b1a334e4360803de2146ff284b6'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'ticket_sys_id'
                        }
                    },
                    {
                        table: 'sys_variable_value'
                        id: '19fcce3f785f41f6a036e837bd3496a1'
                        key: {
                            document_key: '2fa0490feac341dc90212bb7b9f7d395'
                            variable: 'dd54cf535320220002c6435723dc34fd'
                        }
                    },
                    {
                        table: 'sys_documentation'
                        id: '1b15bbeed18642a9b6bce42acffad7c2'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'ticket_sys_id'
                            language: 'en'
                        }
                    },
                    {
                        table: 'sys_choice'
                        id: '1c0d101f18f44aca9442faf5facd81ca'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'state'
                            value: 'acknowledged'
                            language: 'en'
                            dependent_value: 'NULL'
                        }
                    },
                    {
                        table: 'sys_documentation'
                        id: '2170aa2759d94fdcbab3a851956fc98a'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'attempts'
                            language: 'en'
                        }
                    },
                    {
                        table: 'sys_dictionary'
                        id: '27933bcb5acf4b3789f04ae6f3404f4d'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'ticket_number'
                        }
                    },
                    {
                        table: 'sys_documentation'
                        id: '2cb9e4959f8f4f0f9c9262072a04f046'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'acknowledged_on'
                            language: 'en'
                        }
                    },
                    {
                        table: 'sys_rest_message_fn'
                        id: '2e64244481124c5f89b11435ef4c61b9'
                        key: {
                            rest_message: '8633a9132bfa4cd5a577b18ad2c68ddc'
                            function_name: 'ticket closed'
                        }
                    },
                    {
                        table: 'sys_security_acl_role'
                        id: '34e92171ea6d44d899a4c9fd0a1b9fae'
                        key: {
                            sys_security_acl: '8df207462db54399965cdb7d3e3aefe0'
                            sys_user_role: {
                                id: 'e3fbce46cdcd41cba3dd5fdba34c3293'
                                key: {
                                    name: 'x_tkbr_bridge.integration'
                                }
                            }
                        }
                    },
                    {
                        table: 'sys_dictionary'
                        id: '3532a175286c42ffaade2f37dafe27e2'
                        key: {
                            name: 'task'
                            element: 'x_tkbr_bridge_stage_instance_id'
                        }
                    },
                    {
                        table: 'sys_security_acl_role'
                        id: '37b6560c1b90413e8c1ed7344eeafbed'
                        key: {
                            sys_security_acl: '4888a10460f741f78ef27ad2563db1d5'
                            sys_user_role: {
                                id: 'e3fbce46cdcd41cba3dd5fdba34c3293'
                                key: {
                                    name: 'x_tkbr_bridge.integration'
                                }
                            }
                        }
                    },
                    {
                        table: 'sys_documentation'
                        id: '47a16d5256f84bdbb60f26228e472ff0'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'last_status'
                            language: 'en'
                        }
                    },
                    {
                        table: 'sys_documentation'
                        id: '53eda2a7a9bf4594a1f00caf18a716d7'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'NULL'
                            language: 'en'
                        }
                    },
                    {
                        table: 'sys_documentation'
                        id: '544f0cd1f3d74c9db90cfc99e3a25662'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'ticket_state'
                            language: 'en'
                        }
                    },
                    {
                        table: 'sys_security_acl_role'
                        id: '5600c5f03c0c47d8be15312acc5a9aca'
                        key: {
                            sys_security_acl: '4a0cb606f0b14cb296b1d99abb6ea7f8'
                            sys_user_role: {
                                id: '0244a51e2eb04ee1a98c6c80028f4971'
                                key: {
                                    name: 'x_tkbr_bridge.admin'
                                }
                            }
                        }
                    },
                    {
                        table: 'sys_documentation'
                        id: '57e3278068034e9ea174649c37f7e4c9'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'state'
                            language: 'en'
                        }
                    },
                    {
                        table: 'sys_variable_value'
                        id: '5b954b81b94b4617b397409a80eebd6f'
                        key: {
                            document_key: 'f6677c1a9b1d4dacaf56bdd8d7c5b5a2'
                            variable: '989d9e235324220002c6435723dc3484'
                        }
                    },
                    {
                        table: 'sys_security_acl_role'
                        id: '5e605c96a52b4519809fdacdf9ed4e15'
                        key: {
                            sys_security_acl: 'bbf0dac2f6f846eeb7605ea64811fa63'
                            sys_user_role: {
                                id: '0244a51e2eb04ee1a98c6c80028f4971'
                                key: {
                                    name: 'x_tkbr_bridge.admin'
                                }
                            }
                        }
                    },
                    {
                        table: 'sys_documentation'
                        id: '675f91bbfaaf4bfba4a2422458f72aaf'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'ticket_table'
                            language: 'en'
                        }
                    },
                    {
                        table: 'sys_dictionary'
                        id: '7224032815e245f8aea2403da64517ee'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'NULL'
                        }
                    },
                    {
                        table: 'sys_documentation'
                        id: '7381b0ae721d46629dc69c8a9ce5a38a'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'ticket_number'
                            language: 'en'
                        }
                    },
                    {
                        table: 'sys_security_acl_role'
                        id: '80937e233b614a739e6b73442b6c4d50'
                        key: {
                            sys_security_acl: '7153912854c24970ad6465fc77630ecb'
                            sys_user_role: {
                                id: 'e3fbce46cdcd41cba3dd5fdba34c3293'
                                key: {
                                    name: 'x_tkbr_bridge.integration'
                                }
                            }
                        }
                    },
                    {
                        table: 'sys_documentation'
                        id: '8529466d525f4586955095deaa4729d3'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'last_attempt'
                            language: 'en'
                        }
                    },
                    {
                        table: 'sys_documentation'
                        id: '88855c5202f246f9a5344b16b1cfcc41'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'next_attempt'
                            language: 'en'
                        }
                    },
                    {
                        table: 'sys_dictionary'
                        id: '89a00694da5a4f3c9a05b44d5f110221'
                        key: {
                            name: 'task'
                            element: 'x_tkbr_bridge_user_object_id'
                        }
                    },
                    {
                        table: 'sys_documentation'
                        id: '94c5fc445f6840e497c1b01d3866fd33'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'last_error'
                            language: 'en'
                        }
                    },
                    {
                        table: 'sys_variable_value'
                        id: '9545daa3bc0840b2855a16bdbcea1973'
                        key: {
                            document_key: '2fa0490feac341dc90212bb7b9f7d395'
                            variable: 'e6e3c7535320220002c6435723dc3496'
                        }
                    },
                    {
                        table: 'sys_dictionary'
                        id: 'a280b794dd9a4cbf8ada33ee7a0520d8'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'acknowledged_on'
                        }
                    },
                    {
                        table: 'sys_dictionary'
                        id: 'a2a5ddbf02ad4044b2b8003330b5c76b'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'correlation_id'
                        }
                    },
                    {
                        table: 'sys_dictionary'
                        id: 'a756b61d59fc4c448e282498814f7c26'
                        key: {
                            name: 'task'
                            element: 'x_tkbr_bridge_stage'
                        }
                    },
                    {
                        table: 'sys_dictionary'
                        id: 'a81daff3d7e84b429c02697f940127f6'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'next_attempt'
                        }
                    },
                    {
                        table: 'sys_variable_value'
                        id: 'ab1c6db458c84c3d8b47f03cd3a4184e'
                        key: {
                            document_key: 'f6677c1a9b1d4dacaf56bdd8d7c5b5a2'
                            variable: '42f2564b73031300440211d8faf6a777'
                        }
                    },
                    {
                        table: 'sys_security_acl_role'
                        id: 'ad937c3375de484a83c278b2a90e6ca7'
                        key: {
                            sys_security_acl: '940aa836bdde4352a7b370d251fed94e'
                            sys_user_role: {
                                id: '0244a51e2eb04ee1a98c6c80028f4971'
                                key: {
                                    name: 'x_tkbr_bridge.admin'
                                }
                            }
                        }
                    },
                    {
                        table: 'sys_security_acl_role'
                        id: 'b2de467eab2f429f8be1667a56e66c1e'
                        key: {
                            sys_security_acl: 'ba11ebd3bf7c4fd89810d7094bc29a1a'
                            sys_user_role: {
                                id: 'e3fbce46cdcd41cba3dd5fdba34c3293'
                                key: {
                                    name: 'x_tkbr_bridge.integration'
                                }
                            }
                        }
                    },
                    {
                        table: 'sys_dictionary'
                        id: 'b598a524469e451f81344d0856ad0131'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'last_attempt'
                        }
                    },
                    {
                        table: 'sys_index'
                        id: 'bc4607a2051d4f9e879d02543e3f470f'
                        key: {
                            logical_table_name: 'x_tkbr_bridge_outbox'
                            col_name_string: 'state,next_attempt'
                        }
                    },
                    {
                        table: 'sys_variable_value'
                        id: 'c7664011e33f4e2a9b5ecd4426bb8808'
                        key: {
                            document_key: '2fa0490feac341dc90212bb7b9f7d395'
                            variable: '9024a37f671003007ba405225685efe5'
                        }
                    },
                    {
                        table: 'ua_table_licensing_config'
                        id: 'ccf86cecb0a24e73a109b2df6fdd7f66'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                        }
                    },
                    {
                        table: 'sys_choice'
                        id: 'ce70acb5602b4c01b33e1e87f94b1f8a'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'state'
                            value: 'waiting'
                            language: 'en'
                            dependent_value: 'NULL'
                        }
                    },
                    {
                        table: 'sys_user_role'
                        id: 'e3fbce46cdcd41cba3dd5fdba34c3293'
                        key: {
                            name: 'x_tkbr_bridge.integration'
                        }
                    },
                    {
                        table: 'sys_db_object'
                        id: 'e97ae1f89cf04fda8f526a07a8185934'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                        }
                    },
                    {
                        table: 'sys_dictionary'
                        id: 'ea5e8b9d29d84ffa8ccb56808d38d2da'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'ticket_state'
                        }
                    },
                    {
                        table: 'sys_dictionary'
                        id: 'eb26bc1299d4428fb5b179d1b4ca994f'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'attempts'
                        }
                    },
                    {
                        table: 'sys_documentation'
                        id: 'f36344371c4e46bb8a01a5663053cdc2'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'correlation_id'
                            language: 'en'
                        }
                    },
                    {
                        table: 'sys_index'
                        id: 'f4f7791891ee47e1ab0019c7f166466d'
                        key: {
                            logical_table_name: 'x_tkbr_bridge_outbox'
                            col_name_string: 'ticket_sys_id,state'
                        }
                    },
                    {
                        table: 'sys_dictionary'
                        id: 'f6e436cc20c443c49cacacdaef89435b'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'last_status'
                        }
                    },
                    {
                        table: 'sys_dictionary'
                        id: 'f72f46922d1644cdabc7b0cf980f5d4b'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'last_error'
                        }
                    },
                    {
                        table: 'sys_dictionary'
                        id: 'f892931b4383483c93151cc3d9a907f2'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'ticket_table'
                        }
                    },
                    {
                        table: 'sys_choice'
                        id: 'f95396c72f1946eca6c7999f5c7174be'
                        key: {
                            name: 'x_tkbr_bridge_outbox'
                            element: 'state'
                            value: 'failed'
                            language: 'en'
                            dependent_value: 'NULL'
                        }
                    },
                    {
                        table: 'sys_dictionary'
                        id: 'fe3f9e34d0a94c48b0bf3fc4b4cf6750'
                        key: {
                            name: 'task'
                            element: 'x_tkbr_bridge_request_id'
                        }
                    },
                ]
            }
        }
    }
}
